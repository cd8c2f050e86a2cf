"""Models on disk: `archive` the safe zip of arrays, `model` a policy <-> a file, `training` what going on needs."""
