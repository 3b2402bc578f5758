"""Where the harness keeps what it needs again."""

from __future__ import annotations

import os
from pathlib import Path

from harness.errors import HarnessError


def cache_directory() -> Path:
    """Return the directory of the harness's cache, made if need be.

    ``HARNESS_CACHE_DIR`` names it; else it is ``loop-harness`` in the user's cache directory
    (``XDG_CACHE_HOME``, else ``~/.cache``). Releases, results of cells and the answers of package
    indexes lie there, and what a broker was built from. It may be removed at any time.

    :raises HarnessError: if it cannot be made
    """
    named = os.environ.get("HARNESS_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    path = Path(named or os.path.join(base, "loop-harness")).expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HarnessError(
            f"the cache directory {path} cannot be made ({error.strerror}); "
            "name another one with HARNESS_CACHE_DIR"
        ) from None
    return path
