"""`python -m trpo_np` is the command `trpo-np`, also where that is not on the PATH."""

from .cli import main

main()
