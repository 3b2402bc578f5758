"""The commands of the command line: each module offers ``add_arguments`` and ``run``."""
