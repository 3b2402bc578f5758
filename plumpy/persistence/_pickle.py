"""Checkpoints in pickle files, one each, in the format of plumpy 0.26.1."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import re
import tempfile
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from ..exceptions import PersistenceError
from ..utils import PID_TYPE
from ._bundle import Bundle
from ._paths import explain, readable
from ._persister import PersistedCheckpoint, PersistedPickle, Persister

if TYPE_CHECKING:
    from ..processes import Process

_PICKLE_SUFFIX = "pickle"
_LOGGER = logging.getLogger("plumpy.persistence")


class PicklePersister(Persister):
    """Keeps checkpoints as files in a directory, written in one piece or not at all.

    Loading a checkpoint unpickles it, which runs whatever code the file asks for: using this class
    says that everyone who can write to the directory is trusted. Everything but loading only looks
    at the names of the files and at the names inside them, without running anything.
    :class:`SqlitePersister` needs no such trust.

    :param pickle_directory: path of the directory; created if it is not there
    """

    def __init__(self, pickle_directory: str) -> None:
        super().__init__()
        self.ensure_pickle_directory(pickle_directory)
        self._pickle_directory = pickle_directory

    @staticmethod
    def ensure_pickle_directory(dirpath: str) -> None:
        """Create the directory if it is not there.

        :raises OSError: if that fails
        """
        os.makedirs(dirpath, exist_ok=True)

    @staticmethod
    def load_pickle(filepath: str) -> PersistedPickle:
        """Unpickle one file, which may run any code that is in it.

        :raises PersistenceError: if the file is damaged or refers to something that is gone
        """
        with open(filepath, "rb") as handle:
            try:
                persisted = pickle.load(handle)
            except Exception as exc:
                raise PersistenceError(
                    f"the checkpoint in {filepath} cannot be loaded: {type(exc).__name__}: {exc}"
                ) from exc
        if not isinstance(persisted, PersistedPickle):
            raise PersistenceError(f"there is no checkpoint in {filepath}")
        return persisted

    @staticmethod
    def pickle_filename(pid: PID_TYPE, tag: str | None = None) -> str:
        """Return the name of the file of a checkpoint.

        Characters other than letters, digits, ``_`` and ``-`` are written as ``%`` and a code, so
        that two checkpoints never share a name and no name leads out of the directory.
        """
        parts = [str(pid)] if tag is None else [str(pid), tag]
        return ".".join([*(_escape(part) for part in parts), _PICKLE_SUFFIX])

    def save_checkpoint(self, process: Process, tag: str | None = None) -> None:
        """Store the present state of a process, in place of what was there under that tag.

        :raises PersistenceError: if it cannot be pickled or could not be unpickled again; what was
            there stays
        """
        bundle = Bundle(process)
        checkpoint = PersistedCheckpoint(process.pid, tag)
        try:
            data = _checked_pickle(PersistedPickle(checkpoint, bundle))
        except Exception as exc:
            raise PersistenceError(_what_cannot_be_pickled(bundle, exc)) from exc
        path = self._pickle_filepath(process.pid, tag)
        if tag is not None:
            self._make_way(path, checkpoint)
        _write_in_one_piece(path, data)
        self._delete_old(self._candidates(process.pid, tag)[1:], process.pid, tag)

    def load_checkpoint(self, pid: PID_TYPE, tag: str | None = None) -> Bundle:
        """Return a stored state by unpickling it.

        :raises FileNotFoundError: if there is none
        :raises PersistenceError: if the file is damaged
        """
        paths = self._candidates(pid, tag)
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                persisted = self.load_pickle(path)
                if _is_same(persisted.checkpoint, pid, tag):
                    bundle: Bundle = persisted.bundle
                    return bundle
        raise FileNotFoundError(
            2, f"there is no checkpoint of process {pid!r}, tag {tag!r}", paths[0]
        )

    def get_checkpoints(self) -> list[PersistedCheckpoint]:
        """Return the names of all checkpoints; damaged files are left out and logged."""
        return [checkpoint for _, checkpoint in self._listing("")]

    def get_process_checkpoints(self, pid: PID_TYPE) -> list[PersistedCheckpoint]:
        """Return the names of the checkpoints of one process; damaged files are left out."""
        return [checkpoint for _, checkpoint in self._listing_of(pid)]

    def delete_checkpoint(self, pid: PID_TYPE, tag: str | None = None) -> None:
        path, *old_paths = self._candidates(pid, tag)
        header = _read_header(path)
        if header is None or _is_same(header, pid, tag):
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)
        self._delete_old(old_paths, pid, tag)

    def delete_process_checkpoints(self, pid: PID_TYPE) -> None:
        for path, _ in list(self._listing_of(pid)):
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)

    def _pickle_filepath(self, pid: PID_TYPE, tag: str | None = None) -> str:
        return os.path.join(self._pickle_directory, self.pickle_filename(pid, tag))

    def _candidates(self, pid: PID_TYPE, tag: str | None) -> list[str]:
        """Return where a checkpoint may be: under its name, or the unescaped one of 0.26.1."""
        names = [self.pickle_filename(pid, tag), _old_filename(pid, tag)]
        if names[0] == names[1] or os.path.basename(names[1]) != names[1]:
            del names[1]
        return [os.path.join(self._pickle_directory, name) for name in names]

    def _listing_of(self, pid: PID_TYPE) -> Iterator[tuple[str, PersistedCheckpoint]]:
        prefixes = {_escape(str(pid)) + ".", f"{pid}."}
        for prefix in prefixes:
            for path, checkpoint in self._listing(prefix):
                if checkpoint.pid == pid:
                    yield path, checkpoint

    def _listing(self, prefix: str) -> Iterator[tuple[str, PersistedCheckpoint]]:
        for name in sorted(os.listdir(self._pickle_directory)):
            if name.startswith(prefix) and name.endswith("." + _PICKLE_SUFFIX):
                path = os.path.join(self._pickle_directory, name)
                header = _read_header(path)
                if header is not None:
                    yield path, header
                elif os.path.exists(path):
                    _LOGGER.warning("%s is no checkpoint or damaged: left out", path)

    def _delete_old(self, old_paths: list[str], pid: PID_TYPE, tag: str | None) -> None:
        for path in old_paths:
            header = _read_header(path)
            if header is not None and _is_same(header, pid, tag):
                os.remove(path)

    def _make_way(self, path: str, checkpoint: PersistedCheckpoint) -> None:
        """Rename a file of 0.26.1 that has the name of another checkpoint (pid ``1.a``)."""
        header = _read_header(path)
        if header is not None and not _is_same(header, checkpoint.pid, checkpoint.tag):
            os.replace(path, self._pickle_filepath(header.pid, header.tag))


class _HeaderFoundError(Exception):
    pass


class _Header(PersistedCheckpoint):
    """Stands in for the name of the checkpoint while only that is read."""

    __slots__ = ()


class _HeaderReader(pickle.Unpickler):
    """Unpickles up to where the bundle begins, and refuses every class but those of plain pids."""

    found: PersistedCheckpoint | None = None

    def find_class(self, module_name: str, global_name: str) -> Any:
        if module_name == "plumpy.persistence":
            if global_name == "PersistedPickle":
                return PersistedPickle
            if global_name == "PersistedCheckpoint":
                return self._header_class()
        elif (module_name, global_name) == ("uuid", "UUID"):
            return uuid.UUID
        if self.found is not None:
            raise _HeaderFoundError
        raise pickle.UnpicklingError(f"{module_name}.{global_name} in the name of a checkpoint")

    def _header_class(self) -> type:
        reader = self

        class Header(_Header):
            __slots__ = ()

            def __new__(cls, pid: Any, tag: Any) -> Any:
                reader.found = PersistedCheckpoint(pid, tag)
                return super().__new__(cls, pid, tag)

        return Header


def _read_header(path: str) -> PersistedCheckpoint | None:
    """Return the name of the checkpoint in a file, or ``None`` if there is none to be read."""
    try:
        with open(path, "rb") as handle:
            return _header_of(handle)
    except OSError:
        return None


def _header_of(handle: BinaryIO) -> PersistedCheckpoint | None:
    handle.seek(-1, os.SEEK_END)
    if handle.read(1) != pickle.STOP:
        return None  # cut off
    handle.seek(0)
    reader = _HeaderReader(handle)
    try:
        reader.load()
    except _HeaderFoundError:
        return reader.found
    except Exception:
        return None
    return None


def _is_same(checkpoint: PersistedCheckpoint, pid: PID_TYPE, tag: str | None) -> bool:
    return str(checkpoint.pid) == str(pid) and checkpoint.tag == tag


def _escape(text: str) -> str:
    def code(match: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in match.group().encode("utf-8", "surrogatepass"))

    return re.sub(r"[^A-Za-z0-9_-]", code, text) or "%"


def _old_filename(pid: PID_TYPE, tag: str | None) -> str:
    return f"{pid}.{_PICKLE_SUFFIX}" if tag is None else f"{pid}.{tag}.{_PICKLE_SUFFIX}"


def _checked_pickle(value: Any) -> bytes:
    data = pickle.dumps(value)
    # What fails in an `__init__` or `__setstate__` fails now, while the process is still there.
    pickle.loads(data)
    return data


def _what_cannot_be_pickled(bundle: Bundle, error: Exception) -> str:
    for key, value in bundle.items():
        try:
            _checked_pickle(value)
        except Exception as exc:
            return explain(value, readable(key), _checked_pickle, exc)
    return f"cannot save the checkpoint: {error}"


def _write_in_one_piece(path: str, data: bytes) -> None:
    directory, name = os.path.split(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name[:40]}.", suffix=".tmp", dir=directory)
    try:
        with open(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
    _sync_directory(directory)


def _sync_directory(directory: str) -> None:
    if os.name == "nt":
        return  # a directory cannot be opened there
    descriptor = os.open(directory or ".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
