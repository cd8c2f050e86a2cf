"""Models out of this package and into it.

In: `stored` (a zip of plain members), `pickles` (a pickle as data, never as code), `torch_files` (torch's zip
of numbers), `foreign` (what the readers hand on), `sb3` and `sb2` (the models of stable-baselines3 with
sb3-contrib, and of stable-baselines 2), `vec_normalize` (statistics), `convert` (of all that a file of ours).
"""
