"""Gets the releases that cells need, several at once, while those that are there already run."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from harness.errors import HarnessError
from harness.matrix.cache import Say
from harness.matrix.installers import IndexFailed, NotForThisPython, stop_installers
from harness.matrix.interpreters import Interpreter
from harness.matrix.releases import Release, is_kept, obtain

#: How many releases are installed at once: mostly they wait for the network.
_INSTALLERS = 6

#: Project with its extras, release, and tag of the interpreter.
Place = tuple[str, str, str]


class Supply:
    """Some releases on their way; use it as a context manager, which leaves nothing running.

    :param wanted: the places that are needed, each with an interpreter of its tag, in the order in
        which they are got; but what the cache has comes first
    :param offline: whether they must come from the cache
    :param say: told what is not an error
    """

    def __init__(self, wanted: Mapping[Place, Interpreter], *, offline: bool, say: Say) -> None:
        self._left = len(wanted)
        self._offline = offline
        self._say = say
        self._arrived: queue.SimpleQueue[tuple[Place, Release | HarnessError]] = queue.SimpleQueue()
        #: What the index said to the latest releases, if it failed them all.
        self._failed: list[str] = []
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(_INSTALLERS)
        by_release: dict[tuple[str, str], dict[Place, Interpreter]] = {}
        for place, interpreter in wanted.items():
            by_release.setdefault(place[:2], {})[place] = interpreter
        for release in sorted(by_release, key=lambda one: not is_kept(*one)):
            self._pool.submit(self._get, by_release[release])

    def __enter__(self) -> Supply:
        return self

    def __exit__(self, *_: object) -> None:
        if self._left:
            self._stopped.set()
            stop_installers()
        self._pool.shutdown()

    @property
    def is_over(self) -> bool:
        """Whether everything has arrived."""
        return not self._left

    def arrivals(self) -> dict[Place, Release | HarnessError]:
        """Return what came since the last call, without waiting for more."""
        found: dict[Place, Release | HarnessError] = {}
        while not self._arrived.empty():
            found.update([self._arrived.get()])
        self._left -= len(found)
        return found

    def rest(self) -> dict[Place, Release | HarnessError]:
        """Wait for everything that has not arrived yet."""
        found = dict(self._arrived.get() for _ in range(self._left))
        self._left = 0
        return found

    def _get(self, interpreters: dict[Place, Interpreter]) -> None:
        """Get one release for some interpreters: one after the other, as one may serve all."""
        for place, interpreter in reversed(interpreters.items()):
            if self._stopped.is_set():
                return
            try:
                found = self._obtain(place, interpreter)
            except Exception as error:
                found = HarnessError(f"{place[0]} {place[1]} cannot be had: {error!r}")
            self._arrived.put((place, found))

    def _obtain(self, place: Place, interpreter: Interpreter) -> Release | HarnessError:
        # When the index fails one release after the other, the rest is not waited for.
        gave_up = not self._offline and len(self._failed) >= _INSTALLERS
        offline = self._offline or gave_up
        try:
            found = obtain(*place[:2], interpreter, say=self._say, offline=offline)
        except IndexFailed as error:
            self._failed.append(str(error))
            return error
        except HarnessError as error:
            if gave_up and not isinstance(error, NotForThisPython):
                return IndexFailed(f"not tried, because it was so before: {self._failed[0]}")
            return error
        self._failed.clear()
        return found
