"""What a report holds. Producers build it, every writer reads it, and JSON is its lossless form."""

from __future__ import annotations

import contextlib
import datetime
import functools
import importlib.metadata
import inspect
import json
import os
import platform
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import harness
from harness.errors import HarnessError
from harness.outcome import Observation, Outcome, Verdict
from harness.scenario import Scenario

#: Version of the JSON form; ``harness/report/schema.json`` describes it. Raised when a field is
#: removed or changes its meaning, not when one is added.
SCHEMA_VERSION = 1
#: Projects whose releases decide what an event loop does, named in every environment.
TELLING = (
    "nest-asyncio",
    "nest-asyncio2",
    "plumpy",
    "kiwipy",
    "aio-pika",
    "pytest",
    "pytest-asyncio",
)
T = TypeVar("T")


def now() -> str:
    """Return the time, in UTC, as ISO 8601 with seconds."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True)
class ScenarioInfo:
    """What a reader is told about a scenario; plain data, so a report outlives the code it is of.

    :param id: the record's id
    :param title: the symptom, in one line
    :param family: name of the scenario's folder
    :param source: URL of the issue or document
    :param library: canonical name of the project under test; None for Python itself
    :param present: where the bug is known to be, as PEP 508 strings
    :param nodeid: what pytest calls the test: ``path::name``
    :param doc: the docstring, without indentation
    :param body: the whole function as it stands in its file, decorators included
    """

    id: str
    title: str
    family: str
    source: str
    library: str | None = None
    present: tuple[str, ...] = ()
    nodeid: str = ""
    doc: str = ""
    body: str = ""

    @classmethod
    def of(cls, record: Scenario) -> ScenarioInfo:
        """Describe a record."""
        path = Path(inspect.getfile(record.function)).resolve()
        with contextlib.suppress(ValueError):
            path = path.relative_to(Path.cwd())
        try:
            body = textwrap.dedent(inspect.getsource(record.function))
        except OSError:  # the file is gone, or the function was made by exec()
            body = ""
        return cls(
            id=record.id,
            title=record.title,
            family=record.family,
            source=record.source,
            library=record.library,
            present=tuple(interval.text for interval in record.present),
            nodeid=f"{path.as_posix()}::{record.function.__qualname__}",
            doc=inspect.getdoc(record.function) or "",
            body=body,
        )


@dataclass(frozen=True)
class Result:
    """What one cell showed.

    :param scenario: id of the scenario
    :param python: full version of the interpreter, for example ``3.11.7``
    :param build: which build of it, for example ``CPython 3.11.7 x86_64-linux-gnu``
    :param library: canonical name of the project under test; None for Python itself
    :param release: release of ``library`` that ran; None where there is none
    :param verdict: the outcome held against the record
    :param observation: the evidence
    :param command: shell command that replays this cell
    """

    scenario: str
    python: str
    build: str
    library: str | None
    release: str | None
    verdict: Verdict
    observation: Observation
    command: str = ""

    @property
    def cell(self) -> tuple[str, str, str, str, str]:
        """What tells this result from every other one of a report."""
        return (self.scenario, self.python, self.build, self.library or "", self.release or "")

    @property
    def where(self) -> str:
        """The cell, for people: ``nest-asyncio 1.3.0, Python 3.11.7``."""
        under = f"{self.library} {self.release}, " if self.library and self.release else ""
        return f"{under}Python {self.python}"


@dataclass(frozen=True)
class Report:
    """Everything one run, or several merged ones, showed.

    :param environment: label -> value, for people: operating system, interpreter, versions
    :param scenarios: every scenario that ``results`` names
    :param results: one per cell
    :param created: when, in UTC, ISO 8601
    """

    environment: Mapping[str, str]
    scenarios: tuple[ScenarioInfo, ...]
    results: tuple[Result, ...]
    created: str = field(default_factory=now)

    def scenario(self, id: str) -> ScenarioInfo:
        """Return what is known of one scenario.

        :raises HarnessError: for an id that this report does not hold
        """
        for info in self.scenarios:
            if info.id == id:
                return info
        known = ", ".join(info.id for info in self.scenarios) or "none"
        raise HarnessError(f"the report holds no scenario {id!r}; it holds: {known}")

    def results_of(self, id: str) -> tuple[Result, ...]:
        """Return the results of one scenario, in the order of the report."""
        return self._by_scenario.get(id, ())

    @functools.cached_property
    def _by_scenario(self) -> Mapping[str, tuple[Result, ...]]:
        found: dict[str, list[Result]] = {}
        for result in self.results:
            found.setdefault(result.scenario, []).append(result)
        return {id: tuple(results) for id, results in found.items()}

    def only(self, ids: Iterable[str]) -> Report:
        """Return the part of this report that is about some scenarios.

        :raises HarnessError: for an id that this report does not hold
        """
        wanted = [self.scenario(id) for id in ids]
        names = {info.id for info in wanted}
        kept = tuple(result for result in self.results if result.scenario in names)
        return Report(self.environment, tuple(wanted), kept, self.created)

    def to_json(self) -> dict[str, Any]:
        """Return plain data that :meth:`from_json` reads back."""
        return {
            "schema": SCHEMA_VERSION,
            "tool": f"loop-harness {harness.__version__}",
            "created": self.created,
            "environment": dict(self.environment),
            "scenarios": [
                {**asdict(info), "present": list(info.present)} for info in self.scenarios
            ],
            "results": [_result_to_json(result) for result in self.results],
        }

    def to_text(self) -> str:
        """Return the JSON form as text, each result on a line of its own."""
        top = self.to_json()
        results = ",\n  ".join(map(json.dumps, top.pop("results")))
        opened = json.dumps(top, indent=1).removesuffix("\n}")
        return f'{opened},\n "results": [\n  {results}\n ]\n}}\n'

    @classmethod
    def from_json(cls, data: Any) -> Report:
        """Rebuild a report. Fields of a later minor addition are ignored.

        :raises HarnessError: for data of a newer schema, or that is no report
        """
        top = _mapping(data, "the report")
        version = _get(top, "schema", int, "the report")
        if version > SCHEMA_VERSION:
            raise HarnessError(
                f"the report has schema {version}, this version reads up to {SCHEMA_VERSION}; "
                f"upgrade loop-harness (it was written by {top.get('tool', 'a newer version')})"
            )
        environment = _mapping(_get(top, "environment", dict, "the report"), "environment")
        report = cls(
            environment={str(key): str(value) for key, value in environment.items()},
            scenarios=_each(top, "scenarios", _scenario_from_json),
            results=_each(top, "results", _result_from_json),
            created=_get(top, "created", str, "the report"),
        )
        known = {info.id for info in report.scenarios}
        for result in report.results:
            if result.scenario not in known:
                raise HarnessError(
                    f"the report has a result of scenario {result.scenario!r} and does not "
                    "describe that scenario; write it again"
                )
        return report

    def save(self, path: Path) -> None:
        """Write the JSON form. The file is replaced in one step, never left half written.

        :raises HarnessError: if it cannot be written
        """
        write_text(path, self.to_text())

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read the JSON form.

        :raises HarnessError: naming the file, for anything that is not a report
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise HarnessError(
                f"{path}: cannot be read ({error.strerror}); give a report.json"
            ) from None
        except UnicodeDecodeError:
            raise HarnessError(f"{path}: is not text; give a report.json") from None
        try:
            return cls.from_json(json.loads(text))
        except (json.JSONDecodeError, RecursionError) as error:
            raise HarnessError(
                f"{path}: is not a whole JSON file ({error}); run the command that wrote it again"
            ) from None
        except HarnessError as error:
            raise HarnessError(f"{path}: {error}") from None


def describe_build() -> str:
    """Name the build of this interpreter, as ``Result.build`` does."""
    triplet = getattr(sys.implementation, "_multiarch", "") or platform.machine()
    return f"{platform.python_implementation()} {platform.python_version()} {triplet}"


def describe_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Describe where a run takes place, for people.

    :param more: what else to name, for example the broker; put last
    """
    found = {
        "Python": f"{describe_build()} ({' '.join(platform.python_build())})",
        "Platform": platform.platform(),
        "loop-harness": harness.__version__,
    }
    for project in TELLING:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[project] = importlib.metadata.version(project)
    return {**found, **(more or {})}


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step, making its directory; lone surrogates are written escaped.

    :raises HarnessError: if it cannot be written
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
                file.write(text)
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise HarnessError(
            f"{path}: cannot be written ({error.strerror}); choose another place"
        ) from None


def _result_to_json(result: Result) -> dict[str, Any]:
    data = {
        name: getattr(result, name)
        for name in ("scenario", "python", "build", "library", "release")
    }
    data["verdict"] = result.verdict.value
    data["observation"] = result.observation.to_json()
    data["command"] = result.command
    return data


def _scenario_from_json(data: Mapping[str, Any], where: str) -> ScenarioInfo:
    present = _get(data, "present", list, where)
    texts = {
        name: _get(data, name, str, where)
        for name in ("id", "title", "family", "source", "nodeid", "doc", "body")
    }
    return ScenarioInfo(
        **texts, present=tuple(map(str, present)), library=_optional(data, "library", where)
    )


def _result_from_json(data: Mapping[str, Any], where: str) -> Result:
    seen = _mapping(_get(data, "observation", dict, where), f"{where}.observation")
    inside = f"{where}.observation"
    seconds = seen.get("seconds", 0.0)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise HarnessError(
            f"{inside}.seconds is {seconds!r}, which is not a number; write it again"
        )
    observation = Observation(
        outcome=_member(Outcome, _get(seen, "outcome", str, inside), f"{inside}.outcome"),
        seconds=float(seconds),
        **{name: _get(seen, name, str, inside) for name in ("message", "detail", "output")},
    )
    return Result(
        **{
            name: _get(data, name, str, where)
            for name in ("scenario", "python", "build", "command")
        },
        library=_optional(data, "library", where),
        release=_optional(data, "release", where),
        verdict=_member(Verdict, _get(data, "verdict", str, where), f"{where}.verdict"),
        observation=observation,
    )


def _each(
    data: Mapping[str, Any], name: str, build: Callable[[Mapping[str, Any], str], T]
) -> tuple[T, ...]:
    items: Sequence[Any] = _get(data, name, list, "the report")
    return tuple(
        build(_mapping(item, f"{name}[{index}]"), f"{name}[{index}]")
        for index, item in enumerate(items)
    )


def _get(data: Mapping[str, Any], name: str, kind: type[T], where: str) -> T:
    if name not in data:
        raise HarnessError(f"{where} has no {name!r}; this is not a report of loop-harness")
    value = data[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise HarnessError(f"{where}: {name} is {value!r:.80}, expected {kind.__name__}")
    return value


def _optional(data: Mapping[str, Any], name: str, where: str) -> str | None:
    return None if data.get(name) is None else _get(data, name, str, where)


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise HarnessError(f"{where} is {value!r:.80}, expected an object; give a report.json")
    return value


def _member(kind: Callable[[str], T], value: str, where: str) -> T:
    try:
        return kind(value)
    except ValueError:
        raise HarnessError(f"{where} is {value!r}, which this version does not know") from None
