"""The program that runs in each interpreter of the matrix: it forks one child per cell.

Runs on Python 3.6 and later with nothing but the standard library; the harness starts it, and
imports nothing of it but where tasks wait. Commands come in on standard input and events leave on
standard output, one JSON value a line; ``runner.py`` is the other side. What a script needs of the
standard library is loaded once, and nothing of any other library: each child starts pristine.

A child is judged by evidence. It hangs when it can no longer change: every thread waits, without
end or past the end of the run, for what only another thread of the same process could do. Where
that cannot be seen (no ``/proc``) the clock alone decides.
"""
