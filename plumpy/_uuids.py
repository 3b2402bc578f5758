"""Random UUIDs, without a system call for each.

A system call lets go of the interpreter, and another thread that computes keeps it for 5 ms then.
"""

from __future__ import annotations

import os
import uuid

#: Random bytes for UUIDs to come.
_pool: list[bytes] = []
_SIZE, _NUMBER = 16, 256


def random_uuid() -> uuid.UUID:
    """Return a new random UUID; may be called from any thread."""
    try:
        data = _pool.pop()
    except IndexError:
        fresh = os.urandom(_SIZE * _NUMBER)
        _pool.extend(fresh[start : start + _SIZE] for start in range(_SIZE, len(fresh), _SIZE))
        data = fresh[:_SIZE]
    return uuid.UUID(bytes=data, version=4)


# A fork would have the same ones.
os.register_at_fork(after_in_child=_pool.clear)
