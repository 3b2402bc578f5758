"""What runs inside the project's own pytest: Python 3.8+, pytest 6.2+, standard library only.

:mod:`.launch` is started by the interpreter under test and loads this directory as a package of
its own, so the harness itself need not be importable there. Imports in here are relative.
"""
