"""Keep freed memory for the next array, where the C library can be told to."""

import ctypes
import os
import sys

TRIM, MMAP = -1, -3  # mallopt's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD (malloc.h)


def keep_freed() -> bool:
    """Tell glibc to keep freed memory instead of giving it back to the system; return whether it does.

    Each pass over a batch makes and frees the same arrays. By default large ones get fresh pages each time,
    which the system fills with zeros first: a third of a Fisher product's time (bench/limits.py
    --fresh-pages). Nothing is told where the user has set MALLOC_TRIM_THRESHOLD_ or MALLOC_MMAP_THRESHOLD_,
    and on other systems.
    """
    if sys.platform != "linux" or {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library than glibc
        return False
    # sizes in bytes, which are C ints; older versions allow arrays of up to 32 MB
    return bool((mallopt(MMAP, 2**30) or mallopt(MMAP, 2**25)) and mallopt(TRIM, 2**31 - 1))
