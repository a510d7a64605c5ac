"""The exit codes of our commands, as sysexits.h has them where it has one.

Read before anything is installed, too: standard library only, and nothing that Python 3.7 cannot read.
"""

EXIT_NOT_ANSWERED = 1
"""`inferwatch ask`: there was an answer, and it was no."""
EXIT_USAGE = 2
"""A wrong option or argument."""
EXIT_REFUSED = 65
"""`inferwatch produce`: lines of the input were refused. `inferwatch replay`: it cannot be recomputed."""
EXIT_INTERNAL = 70
"""A fault of ours; also books that do not balance, and a detector that does not keep what it promises."""
EXIT_TRY_AGAIN = 75
"""Something is away or not finished, and may pass by itself."""
EXIT_CONFIGURATION = 78
"""A setting that cannot work."""
EXIT_INTERRUPTED = 130
"""Ctrl-C."""
