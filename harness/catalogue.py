"""Find scenarios by id, file or node id, without pytest."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

from harness.errors import HarnessError
from harness.scenario import Scenario, record_of

#: Where scenarios are looked for when only an id is given, relative to the working directory.
FOLDER = "scenarios"


def load(names: Sequence[str] = (), folder: Path | None = None) -> list[Scenario]:
    """Return the scenarios that are named, in the order of the names; none means every one.

    A name is an id (``N05``), a pattern of ids (``'N*'``), a file or folder, or what pytest calls
    the test (``path::name``).

    :param folder: where ids are looked for; default: ``scenarios`` here, else the installed ones
    :raises HarnessError: for a name that is no scenario, a module that cannot be imported, or two
        scenarios of one id
    """
    found: dict[str, Scenario] = {}
    for name in names or ("*",):
        for record in _named(name, folder):
            known = found.setdefault(record.id, record)
            if known.function.__code__ != record.function.__code__:
                raise _twice(known, record)
    return list(found.values())


def _named(name: str, folder: Path | None) -> list[Scenario]:
    path, _, function = name.partition("::")
    if function or path.endswith(".py") or Path(path).is_dir():
        place = Path(path)
        if place.exists():
            records = _in_files(_files(place))
            if function:
                records = [r for r in records if r.function.__qualname__ == function]
            if records:
                return records
            raise HarnessError(f"{name}: holds no scenario; give an 'async def' under @scenario")
        if function or path.endswith(".py"):
            raise HarnessError(f"{name}: there is no such file; give the path of a scenario")
    home = _home(folder)
    files = _files(home)
    # An id stands in its file as it is, so the other files need not be imported.
    likely = [file for file in files if name in file.read_text(encoding="utf-8", errors="replace")]
    for candidates in (likely, files):
        records = [r for r in _in_files(candidates) if fnmatch.fnmatchcase(r.id, name)]
        if records:
            return records
    close = sorted(record.id for record in _in_files(files))
    raise HarnessError(
        f"there is no scenario {name!r} in {home}; give a path, or one of: {', '.join(close)}"
    )


def _home(folder: Path | None) -> Path:
    if folder is not None:
        return folder
    if Path(FOLDER).is_dir():
        return Path(FOLDER)
    spec = importlib.util.find_spec(FOLDER)
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        return Path(location)
    raise HarnessError(f"there is no folder {FOLDER!r} here; give the path of a scenario")


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return sorted(file for file in place.rglob("*.py") if file.name.startswith("test_"))


def _in_files(files: Iterable[Path]) -> list[Scenario]:
    found: dict[str, Scenario] = {}
    for file in files:
        module = _module(file)
        for value in vars(module).values():
            record = record_of(value)
            if record is not None and record.function.__module__ == module.__name__:
                if record.id in found and found[record.id] is not record:
                    raise _twice(found[record.id], record)
                found[record.id] = record
    return list(found.values())


def _module(file: Path) -> ModuleType:
    """Import a file once; its name is its own, so that no two files meet."""
    path = file.resolve()
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    name = f"_scenario_{digest}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise HarnessError(f"{file}: is not a Python file; give the path of a scenario")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except HarnessError:
        del sys.modules[name]
        raise
    except Exception as error:
        del sys.modules[name]
        raise HarnessError(
            f"{file}: cannot be imported ({type(error).__name__}: {error}); run python {file}"
        ) from None
    return module


def _twice(one: Scenario, other: Scenario) -> HarnessError:
    places = " and ".join(
        f"{record.function.__code__.co_filename}::{record.function.__name__}"
        for record in (one, other)
    )
    return HarnessError(f"scenario id {one.id!r} is used twice, by {places}; rename one of them")
