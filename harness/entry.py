"""What the installed commands start with: Ctrl-C ends them quietly, also while they are imported.

Importing takes a good part of a second, and a command can catch nothing before it is there. So
nothing is imported here.
"""

INTERRUPTED = 130  # 128 and the number of SIGINT


def harness() -> int:
    """Run the command ``harness``."""
    try:
        from harness.cli import main

        return main()
    except KeyboardInterrupt:
        return INTERRUPTED


def plumpy() -> int:
    """Run the command ``plumpy``; here because importing anything of plumpy imports all of it."""
    try:
        from plumpy.cli import main

        return main()
    except KeyboardInterrupt:
        return INTERRUPTED
