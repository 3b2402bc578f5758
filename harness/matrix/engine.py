"""Runs the cells of a grid: exports, installs, looks up what is known, runs the rest, judges."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.directories import cache_directory
from harness.errors import HarnessError
from harness.matrix.cache import (
    FORMAT,
    ResultCache,
    Say,
    digest,
    keep,
    say_on_stderr,
)
from harness.matrix.cells import Cell
from harness.matrix.evidence import is_told_by_the_clock
from harness.matrix.installers import NotForThisPython
from harness.matrix.interpreters import Interpreter
from harness.matrix.releases import Release, recall
from harness.matrix.runner import Ran, Run, Runner
from harness.matrix.scripts import Script, kept_scripts, with_extras
from harness.matrix.supply import Place, Supply
from harness.outcome import Observation, Outcome, Verdict, judge
from harness.report.model import Report, Result, ScenarioInfo, describe_environment
from harness.scenario import Scenario

#: Digests of a script and of the place that it runs in.
_Key = tuple[str, str]
#: Called as work gets done: cells done, cells in all.
Progress = Callable[[int, int], None]


# The same few places are hashed for every cell of a grid.
_digest = functools.lru_cache(maxsize=65536)(digest)


def no_progress(done: int, total: int) -> None:
    """Show nothing."""


@dataclass
class Grid:
    """What came of a grid.

    :param results: one per cell, in the order of the cells
    :param problems: what could not be run, each a line for people
    :param ran: how many runs it took; the others were known
    """

    results: list[Result] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    ran: int = 0

    @property
    def differing(self) -> list[Result]:
        """The cells whose runs did not agree."""
        return [one for one in self.results if one.observation.message.startswith(_DIFFERS)]

    def report(self, records: Sequence[Scenario]) -> Report:
        """Return the report of this grid.

        :param records: the scenarios it is about
        """
        told = {one.scenario for one in self.results}
        infos = tuple(ScenarioInfo.of(record) for record in records if record.id in told)
        return Report(describe_environment(), infos, tuple(self.results))


class Interrupted(KeyboardInterrupt):
    """A run of cells was interrupted.

    :param grid: what was done before
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid


_DIFFERS = "outcomes differ: "


class Engine:
    """Runs grids; what it has found out is used again by the next one.

    Use it as a context manager: the interpreters that it started stay until its end.

    :param jobs: how many runs may use the processor at once; default: that of
        :class:`Runner`
    :param fresh: whether to run what is known already, too
    :param offline: whether releases must come from the cache
    :param say: told what is not an error
    """

    def __init__(
        self,
        *,
        jobs: int | None = None,
        fresh: bool = False,
        offline: bool = False,
        say: Say = say_on_stderr,
    ) -> None:
        self._jobs = jobs
        self._runner = Runner(jobs)
        self._fresh = fresh
        self._offline = offline
        self._say = say
        self._cache = ResultCache(cache_directory() / "results", say)
        self._durations_file = cache_directory() / "durations.json"
        self._releases: dict[Place, Release | HarnessError] = {}
        self._recalled: dict[Place, Release | None] = {}
        self._scripts: dict[str, Script] = {}
        self._seen: dict[_Key, list[Observation]] = {}

    def __enter__(self) -> Engine:
        self._runner.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.__exit__(*error)

    def run(
        self, cells: Sequence[Cell], progress: Progress = no_progress, *, repeat: int = 1
    ) -> Grid:
        """Run what is not known, and judge every cell.

        :param progress: called as cells get done
        :param repeat: how often each cell is to have run; what is known counts
        :raises Interrupted: with what was done, if it is interrupted
        """
        grid = Grid()
        keys: dict[int, _Key | None] = {}
        try:
            self._run(cells, progress, repeat, grid, keys)
        except KeyboardInterrupt:
            known = [
                cell
                for cell in cells
                if id(cell) in keys and not self._lacks(keys[id(cell)], cell.record, repeat)
            ]
            self._conclude(known, keys, grid)
            raise Interrupted(grid) from None
        self._conclude(cells, keys, grid)
        return grid

    def _run(
        self,
        cells: Sequence[Cell],
        progress: Progress,
        repeat: int,
        grid: Grid,
        keys: dict[int, _Key | None],
    ) -> None:
        """Run what is not known; the keys of the cells come to stand in ``keys``."""
        self._export({cell.record.id: cell.record for cell in cells}.values(), grid)
        cells = [cell for cell in cells if cell.record.id in self._scripts]
        self._recall([cell for cell in cells if not cell.why_not])
        waiting: dict[Place | None, list[Cell]] = {}
        for cell in cells:
            # What is known by the bytes of a release needs no look at its directory.
            if cell.why_not or self._has_release(cell):
                keys[id(cell)] = self._key(cell)
            if id(cell) not in keys or self._lacks(keys[id(cell)], cell.record, repeat):
                waiting.setdefault(self._place(cell), []).append(cell)
        done = len(cells) - sum(map(len, waiting.values()))
        durations = self._durations()
        longest: dict[str, float] = {}
        left: Counter[_Key] = Counter()
        wanted: dict[_Key, list[Cell]] = {}
        under_way: dict[int, tuple[Run, _Key]] = {}
        #: What only the clock has told until now: it is run once more, when the machine has time.
        doubted: dict[_Key, Observation] = {}

        def begin(places: Collection[Place | None]) -> list[Run]:
            nonlocal done
            runs = []
            for cell in (cell for place in places for cell in waiting.pop(place)):
                key = keys[id(cell)] = self._key(cell)
                if key is not None and left[key]:
                    wanted[key].append(cell)
                elif key is not None and (lacks := self._lacks(key, cell.record, repeat)):
                    wanted[key] = [cell]
                    left[key] = lacks
                    more = [self._prepare(cell) for _ in range(lacks)]
                    under_way.update((id(run), (run, key)) for run in more)
                    runs += more
                else:
                    done += 1
            progress(done, len(cells))
            grid.ran += len(runs)
            # Longest first: a long run that starts last would be waited for alone.
            return sorted(runs, key=lambda run: -durations.get(run.name, run.limit))

        def finished(run: Run, ran: Ran) -> None:
            nonlocal done
            _, key = under_way[id(run)]
            if repeat == 1 and key not in doubted and is_told_by_the_clock(ran.observation):
                doubted[key] = ran.observation
                return
            seen = [doubted.pop(key), ran.observation] if key in doubted else [ran.observation]
            self._seen[key] += seen
            if not self._scripts[run.name].looks_outside and ran.is_evidence:
                for observation in seen:
                    self._cache.add(*key, observation)
            longest[run.name] = max(longest.get(run.name, 0.0), ran.observation.seconds)
            left[key] -= 1
            if not left[key]:
                done += len(wanted[key])
                progress(done, len(cells))

        with self._supply(cell for group in waiting.values() for cell in group) as supply:

            def arrived() -> list[Run] | None:
                if supply.is_over:
                    return None
                self._releases.update(found := supply.arrivals())
                return begin(found) if found else []

            there = [place for place in waiting if place is None or place in self._releases]
            self._runner.run(begin(there), finished, arrived)
        again = {key: self._prepare(wanted[key][0]) for key in doubted}
        under_way.update((id(run), (run, key)) for key, run in again.items())
        grid.ran += len(again)
        self._runner.run(again.values(), finished)
        if longest:
            keep(self._durations_file, json.dumps({**durations, **longest}))

    def _lacks(self, key: _Key | None, record: Scenario, repeat: int) -> int:
        """Return how many runs a cell still needs."""
        if key is None:
            return 0
        if key not in self._seen:
            keeps = not self._scripts[record.id].looks_outside and not self._fresh
            self._seen[key] = self._cache.get(*key) if keeps else []
        return max(0, repeat - len(self._seen[key]))

    def _conclude(self, cells: Sequence[Cell], keys: Mapping[int, _Key | None], grid: Grid) -> None:
        """Judge the cells that have a key by what was seen of them."""
        cells = [cell for cell in cells if id(cell) in keys]
        names = _builds({cell.interpreter for cell in cells})
        showed = {
            script
            for (script, _), observations in self._seen.items()
            if any(one.outcome.is_bug for one in observations)
        }
        for cell in cells:
            key = keys[id(cell)]
            observations = [self._why_not(cell)] if key is None else self._seen[key]
            # A scenario that failed somewhere has shown that it is able to.
            can_fail = cell.record.can_fail or (key is not None and key[0] in showed)
            grid.results.append(_result(cell, observations, names[cell.interpreter], can_fail))
        grid.problems += _broken(grid.results)

    def trace(self, cells: Sequence[Cell]) -> list[Ran | None]:
        """Run each cell once more and note which lines of its library run; None if it cannot run.

        :param cells: cells that have run
        """
        with self._supply(cell for cell in cells if not cell.why_not) as supply:
            self._releases.update(supply.rest())
        runs = [self._prepare(c, trace=True) if self._key(c) is not None else None for c in cells]
        ran: dict[int, Ran] = {}
        self._runner.run([run for run in runs if run], lambda run, one: ran.update({id(run): one}))
        return [ran.get(id(run)) for run in runs]

    def _prepare(self, cell: Cell, *, trace: bool = False) -> Run:
        release = self._release(cell)
        return Run(
            name=cell.record.id,
            script=self._scripts[cell.record.id].text,
            interpreter=cell.interpreter,
            path=(str(release.directory),) if isinstance(release, Release) else (),
            limit=float(max(1, -(-cell.record.limit // 1))),
            trace=trace,
        )

    def release_of(self, cell: Cell) -> Release | None:
        """Return the installed release of a cell that has run."""
        found = self._release(cell)
        return found if isinstance(found, Release) else None

    # What is needed to run

    def _export(self, records: Iterable[Scenario], grid: Grid) -> None:
        for record in records:
            if record.id not in self._scripts:
                try:
                    self._scripts[record.id] = kept_scripts().of(record)
                except HarnessError as error:
                    grid.problems.append(str(error))
        kept_scripts().keep()

    def _recall(self, cells: Sequence[Cell]) -> None:
        """Take it that releases are as they were installed, for as long as nothing runs there."""
        for cell in cells:
            place = self._place(cell)
            if place and place not in self._releases and place not in self._recalled:
                try:
                    self._recalled[place] = recall(*place[:2], cell.interpreter)
                except HarnessError as error:
                    self._releases[place] = error

    def _has_release(self, cell: Cell) -> bool:
        return cell.library is None or self._release(cell) is not None

    def _supply(self, cells: Iterable[Cell]) -> Supply:
        """Begin to get the releases of some cells; those in the cache are looked over.

        Those with the most cells come first: while they run there is time to install the rest.
        """
        wanted: dict[Place, Interpreter] = {}
        counts: Counter[tuple[str, str]] = Counter()
        for cell in cells:
            place = self._place(cell)
            if place and place not in self._releases:
                wanted.setdefault(place, cell.interpreter)
                counts[place[:2]] += 1
        order = sorted(wanted, key=lambda place: -counts[place[:2]])
        found = {place: wanted[place] for place in order}
        return Supply(found, offline=self._offline, say=self._say)

    def _place(self, cell: Cell) -> Place | None:
        if cell.library is None or cell.release is None:
            return None
        library = with_extras(self._scripts[cell.record.id].text, cell.library)
        return library, cell.release, cell.interpreter.tag

    def _release(self, cell: Cell) -> Release | HarnessError | None:
        place = self._place(cell)
        if place is None:
            return None
        return self._releases.get(place) or self._recalled.get(place)

    def _key(self, cell: Cell) -> _Key | None:
        """Return the digests of what a cell runs and of where; None if it cannot run."""
        release = self._release(cell)
        if cell.why_not or isinstance(release, HarnessError):
            return None
        script = self._scripts[cell.record.id]
        bytes_of_release = version = ""
        if release is not None:
            bytes_of_release = release.digest
            if script.tells_release:
                version = release.version
        return script.digest, _digest(
            str(FORMAT), cell.interpreter.identity, bytes_of_release, version
        )

    def _why_not(self, cell: Cell) -> Observation:
        release = self._release(cell)
        reason = cell.why_not or str(release)
        if cell.why_not or isinstance(release, NotForThisPython):
            return Observation(Outcome.NOT_APPLICABLE, reason)
        return Observation(Outcome.BROKEN, reason)

    def _durations(self) -> dict[str, float]:
        try:
            plain = json.loads(self._durations_file.read_text(encoding="utf-8"))
            return {str(name): float(seconds) for name, seconds in plain.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}


def _broken(results: Iterable[Result]) -> list[str]:
    """Tell what could not run, once for all cells that it is true of."""
    places: dict[str, list[Result]] = {}
    for result in results:
        if result.observation.outcome is Outcome.BROKEN:
            reason = result.observation.message.replace(f"Python {result.python}", "Python ...")
            places.setdefault(reason, []).append(result)
    return [
        f"{first.scenario} with {first.where}"
        + (f" and {len(others)} more cells" if others else "")
        + f": {first.observation.message}"
        for first, *others in places.values()
    ]


def _builds(interpreters: set[Interpreter]) -> dict[Interpreter, str]:
    """Name the build of each interpreter; two of one version and platform by all they say."""
    names = {one: f"CPython {one.version} {one.platform}" for one in interpreters}
    counts = Counter(names.values())
    return {
        one: name if counts[name] == 1 else f"{name} ({one.build.partition(' ')[2]})"
        for one, name in names.items()
    }


def _result(cell: Cell, observations: Sequence[Observation], build: str, can_fail: bool) -> Result:
    first = observations[0]
    outcomes = Counter(one.outcome for one in observations)
    verdict = judge(first.outcome, present=cell.is_present, can_fail=can_fail)
    if len(outcomes) > 1:
        told = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
        text = f"{_DIFFERS}{told} in {len(observations)} runs"
        detail = "\n".join(
            f"{outcome}: {one.message}\n{one.detail}"
            for outcome in outcomes
            for one in observations
            if one.outcome is outcome
        )
        first = replace(first, message=text, detail=detail)
        verdict = Verdict.INCONCLUSIVE
    return Result(
        scenario=cell.record.id,
        python=cell.interpreter.version,
        build=build,
        library=cell.library,
        release=cell.release,
        verdict=verdict,
        observation=first,
        command=cell.command,
    )
