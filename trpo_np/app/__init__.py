"""Shared by the entry points: `signals` (Ctrl-C and its like), `options`, `jobs` (one training job), `plots`,
`sweep` (many), `info`."""
