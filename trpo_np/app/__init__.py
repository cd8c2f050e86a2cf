"""Shared by the entry points: `signals` (Ctrl-C and its like), `options`, `modules` (the user's own),
`jobs` (one training job), `plots`, `sweep` (many), `info`."""
