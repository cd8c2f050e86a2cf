"""Shared by the entry points: `signals` (Ctrl-C and its like), `jobs` (one training job), `plots`, `info`."""
