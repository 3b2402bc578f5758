"""Which scenarios a command is about: by id, file, directory or ``file::name``."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from harness.errors import HarnessError
from harness.scenario import Scenario, record_of


def select(words: Sequence[str] = (), problems: list[str] | None = None) -> list[Scenario]:
    """Return the scenarios that some words of a command line mean, in the order of their files.

    :param words: ids (``N05``), files, directories or ``file::name``; none means every scenario of
        ``./scenarios``, or of the installed library where there is no such directory
    :param problems: takes a line for each file of the library that cannot be imported, so that the
        others can be used; without it such a file is an error
    :raises HarnessError: for a word that means nothing, a file that cannot be imported, and an id
        that two scenarios have
    """
    paths = [word for word in words if _is_path(word)]
    found: dict[str, Scenario] = {}
    for word in paths:
        file, _, name = word.partition("::")
        if not Path(file).exists():
            raise HarnessError(f"{file} does not exist; give a file, a directory or a scenario id")
        records = [one for one in _load(_files(Path(file))) if name in ("", one.function.__name__)]
        if not records:
            raise HarnessError(
                f"{word} holds no scenario; a scenario is an async function with @scenario(id=..., "
                "title=..., source=...) above it, from harness.scenario"
            )
        _add(found, records)
    ids = [word for word in words if not _is_path(word)]
    if ids or not words:
        library: dict[str, Scenario] = {}
        # A file that cannot be imported is in the way only of an id that is nowhere else.
        broken: list[str] = []
        _add(library, _load(_files(_library()), broken if ids else problems))
        for id in ids or library:
            if id not in library:
                near = [known for known in library if known[:2].lower() == id[:2].lower()]
                near = near or [known for known in library if known[0] == id[0]][:12]
                told = [
                    f"known are {', '.join(near)}"
                    if near
                    else f"pytest --harness-list lists all {len(library)}",
                    *broken,
                    "one of your own is named by its file",
                ]
                raise HarnessError(
                    f"there is no scenario {id!r} in {_library()}; {'; '.join(told)}"
                )
            _add(found, [library[id]])
    return list(found.values())


def word_for(record: Scenario) -> str:
    """Return the word that means a scenario here: its id in the library, else its place."""
    code = record.function.__code__
    if _is_in_library(code.co_filename, os.getcwd()):
        return record.id
    file, here = code.co_filename, os.getcwd() + os.sep
    return f"{file.removeprefix(here)}::{code.co_name}"


@functools.lru_cache(maxsize=1024)
def _is_in_library(file: str, directory: str) -> bool:
    """Whether ids are looked up in a library that a file belongs to; it depends on where one is."""
    try:
        return _library().resolve() in Path(file).parents
    except HarnessError:
        return False


def _is_path(word: str) -> bool:
    return "::" in word or "/" in word or word.endswith(".py") or Path(word).is_dir()


def _library() -> Path:
    here = Path("scenarios")
    if here.is_dir():
        return here
    spec = importlib.util.find_spec("scenarios")
    if spec is None or not spec.submodule_search_locations:
        raise HarnessError("there is no directory 'scenarios' here; name a file of scenarios")
    return Path(next(iter(spec.submodule_search_locations)))


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("test_*.py"))


def _add(found: dict[str, Scenario], records: Iterable[Scenario]) -> None:
    for record in records:
        known = found.setdefault(record.id, record)
        codes = [one.function.__code__ for one in (known, record)]
        if len({(code.co_filename, code.co_firstlineno) for code in codes}) > 1:
            places = " and ".join(f"{code.co_filename}:{code.co_firstlineno}" for code in codes)
            raise HarnessError(f"two scenarios have the id {record.id!r}: {places}; rename one")


def _load(files: Iterable[Path], problems: list[str] | None = None) -> Iterator[Scenario]:
    for file in files:
        try:
            module = _import(file.resolve())
        except Exception as error:
            if isinstance(error, HarnessError):
                text = f"{file}: {error}"
            else:
                text = (
                    f"{file} cannot be imported ({type(error).__name__}: {error}); "
                    "a scenario imports the library under test inside its body"
                )
            if problems is None:
                raise HarnessError(text) from error
            problems.append(text)
            continue
        for value in list(vars(module).values()):
            record = record_of(value)
            if record is not None and value.__module__ == module.__name__:
                yield record


def _import(file: Path) -> ModuleType:
    """Import a file by its package's name if it is in a package, else by itself."""
    root, parts = file.parent, [file.stem]
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    if len(parts) > 1:
        with _importable_from(root):
            return importlib.import_module(".".join(parts))
    # Two files of one name in two directories are two modules.
    mark = hashlib.sha256(str(file).encode()).hexdigest()[:8]
    name = f"{file.stem}_{mark}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise HarnessError("is not a Python file; a scenario's file ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def _importable_from(root: Path) -> Iterator[None]:
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(root))
