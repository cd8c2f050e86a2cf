"""Compiled loops, each beside the formula that it computes: arrays in, arrays out.

In reading order: `threads` (cores, and threads of BLAS), `malloc` (freed memory is kept), `compile` (when and
where numba compiles), `blas` (products that suit this BLAS), `scalar` (tanh, discounted sums, Adam), `mlp`
(dense layers on a batch), `act` (the same on a few rows, with a draw), `lstm` (recurrences over time),
`image` (windows and frames).
"""
