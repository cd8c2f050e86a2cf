"""Shared by the entry points: `signals` (Ctrl-C and its like), `options`, `modules` (the user's own),
`launch` (of ranks), `jobs` (one training job), `plots`, `svg` (charts for a page), `report` (the page),
`sweep` (many), `info`."""
