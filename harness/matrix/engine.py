"""Runs the cells of a grid: exports, installs, looks up what is known, runs the rest, judges."""

from __future__ import annotations

import functools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from harness.matrix.installers import IndexFailed, NotForThisPython, stop_installers
from harness.matrix.interpreters import Interpreter
from harness.matrix.releases import Release, is_kept, obtain, recall
from harness.matrix.runner import Ran, Run, Runner
from harness.matrix.scripts import Script, kept_scripts, with_extras
from harness.outcome import Observation, Outcome, Verdict, judge
from harness.report.model import Report, Result, ScenarioInfo, describe_environment
from harness.scenario import Scenario

#: How many releases are installed at once.
_INSTALLERS = 4

#: Digests of a script and of the place that it runs in.
_Key = tuple[str, str]
#: Project with its extras, release, and tag of the interpreter.
_Place = tuple[str, str, str]
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
        self._releases: dict[_Place, Release | HarnessError] = {}
        self._recalled: dict[_Place, Release | None] = {}
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
        done = 0
        # Project by project: what is quick to get has run before the rest is installed.
        for group in self._quickest_first(cells):
            fit = [cell for cell in group if not cell.why_not]
            self._recall(fit)
            self._install([cell for cell in fit if self._has_no_release(cell)])
            keys.update((id(cell), self._key(cell)) for cell in group)
            # What is known by the bytes of a release needs no look at its directory.
            lacking = [c for c in fit if self._lacks(keys[id(c)], c.record, repeat)]
            self._install(lacking)
            keys.update((id(cell), self._key(cell)) for cell in lacking)
            wanted: dict[_Key, list[Cell]] = {}
            for cell in group:
                key = keys[id(cell)]
                if key is not None:
                    wanted.setdefault(key, []).append(cell)
            done += len(group) - sum(map(len, wanted.values()))
            done = self._run_missing(wanted, done, len(cells), repeat, grid, progress)

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
        self._install([cell for cell in cells if not cell.why_not])
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

    def _has_no_release(self, cell: Cell) -> bool:
        return cell.library is not None and self._release(cell) is None

    def _install(self, cells: Sequence[Cell]) -> None:
        """Install the releases of some cells; those in the cache are looked over."""
        needed: dict[tuple[str, str], dict[str, Interpreter]] = {}
        for cell in cells:
            place = self._place(cell)
            if place and place not in self._releases:
                by_tag = needed.setdefault(place[:2], {})
                by_tag.setdefault(cell.interpreter.tag, cell.interpreter)

        def install(item: tuple[tuple[str, str], dict[str, Interpreter]]) -> None:
            (library, release), interpreters = item
            for tag, interpreter in reversed(interpreters.items()):
                if stopped.is_set():
                    return
                found: Release | HarnessError
                offline = self._offline or len(failed) >= _INSTALLERS
                try:
                    found = obtain(library, release, interpreter, say=self._say, offline=offline)
                    failed.clear()
                except IndexFailed as error:
                    found = error
                    failed.append(str(error))
                except HarnessError as error:
                    found = error
                    gave_up = offline and not self._offline
                    if gave_up and not isinstance(error, NotForThisPython):
                        found = IndexFailed(f"not tried, because it was so before: {failed[0]}")
                self._releases[library, release, tag] = found

        # When the index fails one release after the other, the rest is not waited for.
        failed: list[str] = []
        stopped = threading.Event()
        pool = ThreadPoolExecutor(_INSTALLERS)
        try:
            list(pool.map(install, needed.items()))
        except KeyboardInterrupt:
            stopped.set()
            stop_installers()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _place(self, cell: Cell) -> _Place | None:
        if cell.library is None or cell.release is None:
            return None
        library = with_extras(self._scripts[cell.record.id].text, cell.library)
        return library, cell.release, cell.interpreter.tag

    def _release(self, cell: Cell) -> Release | HarnessError | None:
        place = self._place(cell)
        if place is None:
            return None
        return self._releases.get(place) or self._recalled.get(place)

    def _quickest_first(self, cells: Sequence[Cell]) -> list[list[Cell]]:
        """Return the cells of which nothing is missing, then those of each other project.

        Those with the fewest releases to be installed come first.
        """
        projects: dict[str | None, list[Cell]] = {}
        for cell in cells:
            projects.setdefault(cell.library, []).append(cell)
        groups: list[tuple[int, list[Cell]]] = [(0, [])]
        for project in projects.values():
            fit = (cell for cell in project if not cell.why_not)
            places = {place[:2] for cell in fit if (place := self._place(cell))}
            missing = sum(not is_kept(*place) for place in places)
            if missing:
                groups.append((missing, project))
            else:
                groups[0][1].extend(project)
        return [group for _, group in sorted(groups, key=lambda one: one[0]) if group]

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

    # Running

    def _run_missing(
        self,
        wanted: Mapping[_Key, Sequence[Cell]],
        done: int,
        total: int,
        repeat: int,
        grid: Grid,
        progress: Progress,
    ) -> int:
        """Run what is not known; return how many cells are done then, ``done`` before."""
        durations = self._durations()
        runs: list[tuple[float, Run]] = []
        owner: dict[int, _Key] = {}
        left: Counter[_Key] = Counter()
        for key, cells in wanted.items():
            record = cells[0].record
            left[key] = self._lacks(key, record, repeat)
            if not left[key]:
                done += len(cells)
            for _ in range(left[key]):
                run = self._prepare(cells[0])
                owner[id(run)] = key
                runs.append((durations.get(record.id, record.limit), run))
        progress(done, total)
        if not runs:
            return done

        def finished(run: Run, ran: Ran) -> None:
            nonlocal done
            key = owner[id(run)]
            self._seen[key].append(ran.observation)
            record = wanted[key][0].record
            if not self._scripts[record.id].looks_outside and ran.is_evidence:
                self._cache.add(*key, ran.observation)
            longest[record.id] = max(longest.get(record.id, 0.0), ran.observation.seconds)
            left[key] -= 1
            if not left[key]:
                done += len(wanted[key])
                progress(done, total)

        longest: dict[str, float] = {}
        # Longest first: a long run that starts last would be waited for alone.
        runs.sort(key=lambda pair: -pair[0])
        grid.ran += len(runs)
        self._runner.run([run for _, run in runs], finished)
        keep(self._durations_file, json.dumps({**durations, **longest}))
        return done

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
