"""Models on disk.

In reading order: `archive` (a safe zip of arrays), `plain` (plain values as bytes), `model` (a policy and its
file), `training` (what training goes on from).
"""
