"""What the entry points share: `signals` Ctrl-C and its like, `jobs` one training job, `plots` learning curves, `info` files."""
