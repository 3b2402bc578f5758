"""What differs between two releases of a pure Python library, limited to the lines that ran.

The scenario runs once in each release under a trace function; a changed line is shown only if it
was executed, and with it the changed lines around it. What changed in parts of the library that the
scenario never reaches is left out.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.matrix.cells import Cell
from harness.matrix.engine import Engine
from harness.matrix.releases import Release

#: Unchanged lines shown around a change.
CONTEXT = 3


@dataclass(frozen=True)
class Difference:
    """What changed from one release to another.

    :param text: unified diff of the changes whose lines ran
    :param left_out: changes that no run reached
    """

    library: str
    before: str
    after: str
    python: str
    text: str
    left_out: int


def compare(engine: Engine, before: Cell, after: Cell) -> Difference:
    """Compare the releases of two cells.

    :param before: the older release; ``after``: the newer one, in the same interpreter
    :raises HarnessError: if one of them cannot run, or the library has no Python source
    """
    engine.run([before, after])
    sides = [
        _Traced(release, ran.lines)
        for release, ran in zip(
            map(engine.release_of, (before, after)), engine.trace([before, after]), strict=True
        )
        if release is not None and ran is not None
    ]
    if len(sides) < 2:
        raise HarnessError(
            f"{before.library} {before.release} and {after.release} cannot be compared: "
            "one of them does not run here"
        )
    old, new = sides
    names = sorted(set(old.lines) | set(new.lines))
    if not names:
        raise HarnessError(
            f"no Python source of {before.library} ran in {before.record.id}; "
            "only a pure Python library can be compared"
        )
    parts, left_out = [], 0
    for name in names:
        text, count = _diff(name, old, new)
        parts.append(text)
        left_out += count
    return Difference(
        library=before.library or "",
        before=before.release or "",
        after=after.release or "",
        python=before.interpreter.version,
        text="".join(parts),
        left_out=left_out,
    )


@dataclass(frozen=True)
class _Traced:
    release: Release
    lines: Mapping[str, tuple[int, ...]]

    def source(self, name: str) -> list[str]:
        path = Path(self.release.directory, name)
        try:
            return path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []

    def ran(self, name: str, start: int, end: int) -> bool:
        """Whether any of the lines from index ``start`` up to ``end`` ran."""
        return any(start < line <= end for line in self.lines.get(name, ()))


def _diff(name: str, old: _Traced, new: _Traced) -> tuple[str, int]:
    """Return the changes of one file that ran, as a unified diff, and how many did not."""
    before, after = old.source(name), new.source(name)
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    reached = list(before)
    left_out = 0
    # Changes that did not run are made in both texts, so that only the others differ.
    for tag, i1, i2, j1, j2 in reversed(matcher.get_opcodes()):
        if tag != "equal" and not (old.ran(name, i1, i2) or new.ran(name, j1, j2)):
            reached[i1:i2] = after[j1:j2]
            left_out += 1
    lines = difflib.unified_diff(
        reached,
        after,
        f"{old.release.library}-{old.release.version}/{name}",
        f"{new.release.library}-{new.release.version}/{name}",
        n=CONTEXT,
        lineterm="",
    )
    return "".join(f"{line}\n" for line in lines), left_out
