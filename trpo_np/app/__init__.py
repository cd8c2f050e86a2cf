"""Shared by the entry points: `signals` (Ctrl-C and its like), `options`, `jobs` (one training job), `plots`,
`svg` (charts for a page), `report` (the page), `sweep` (many jobs), `info`."""
