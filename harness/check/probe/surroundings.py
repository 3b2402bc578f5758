"""What is known of a test besides its body: what the project runs around it."""

from __future__ import annotations

import os
import re
import unittest
from types import CodeType
from typing import Any, NamedTuple

import pytest

from . import checks
from .functions import body_of, innermost, inside, is_async, named, source_of, taken

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

_SETUPS = (
    "setUp",
    "tearDown",
    "asyncSetUp",
    "asyncTearDown",
    "setUpClass",
    "setup_method",
    "teardown_method",
    "setup_class",
)
_MODULE_SETUPS = ("setUpModule", "setup_module", "setup_function", "teardown_function")
_UNITTEST_ASYNC = getattr(
    body_of(getattr(getattr(unittest, "IsolatedAsyncioTestCase", None), "asyncSetUp", None)),
    "co_filename",
    "",
)
_LIBRARY = os.path.dirname(os.path.abspath(unittest.__file__))


class Fixture(NamedTuple):
    """An async fixture whose value was handed out as it is."""

    name: str
    code: CodeType


class Watch:
    """What is known about the test that runs now."""

    def __init__(self, item: pytest.Function) -> None:
        self.item = item
        self.raw = item.obj
        self.code = body_of(self.raw)
        self.wrapped = innermost(self.raw) is not getattr(self.raw, "__func__", self.raw)
        self.outcome = ""
        self.reason = ""
        self.skipped_by_plugin = False
        self.blind = False
        self.children = children_ended()
        self.fixtures: list[Fixture] = []
        #: The functions inside the body, and those that it takes from its own file.
        self.inside: list[CodeType] = []
        self.beside: list[CodeType] = []
        if self.code is not None:
            self.inside = [code for code in inside(self.code) if _asserts(code)]
            self.beside = [
                code
                for code in map(body_of, named(self.raw))
                if code is not None and code.co_filename == self.code.co_filename and _asserts(code)
            ]

    def is_testcase(self) -> bool:
        """Whether it is a method of a ``unittest.TestCase``."""
        owner = getattr(self.item, "cls", None)
        return isinstance(owner, type) and issubclass(owner, unittest.TestCase)

    def async_setups(self) -> list[CodeType]:
        """The set-ups and tear-downs of its class that are async."""
        owner = getattr(self.item, "cls", None)
        codes = [body_of(getattr(owner, name, None)) for name in _SETUPS]
        # What unittest itself defines does nothing, and is not called outside its own async case.
        return [
            code
            for code in codes
            if code is not None and is_async(code) and code.co_filename != _UNITTEST_ASYNC
        ]

    def others_assert(self) -> bool:
        """Whether a decorator, fixture, set-up or helper of the project asserts something."""
        item = self.item
        outermost = getattr(getattr(self.raw, "__func__", self.raw), "__code__", None)
        if self.wrapped and (outermost is None or not _is_installed(outermost.co_filename)):
            return True
        owner = getattr(item, "cls", None)
        places = () if owner is None else owner.__mro__
        pending = list(taken(self.raw, places))
        pending += [getattr(owner, name, None) for name in _SETUPS]
        pending += [getattr(item.module, name, None) for name in _MODULE_SETUPS]
        pending += (getattr(item, "funcargs", None) or {}).values()
        for name in getattr(item, "fixturenames", ()):
            pending += [one.func for one in item._fixtureinfo.name2fixturedefs.get(name, ())]
        known = {id(one) for one in (self.code, *self.inside, *self.beside)}
        while pending:
            function = pending.pop()
            code = body_of(function)
            if code is None or id(code) in known:
                continue
            if not self._is_of_tests(code.co_filename):
                continue
            known.add(id(code))
            if _asserts(code):
                return True
            pending += taken(function, places)
        return False

    def is_all_there_is(self) -> bool:
        """Whether the body is all there is: no fixture, set-up or decorator of the project ran."""
        item = self.item
        if self.wrapped:
            return False
        own = {
            name
            for mark in item.iter_markers("parametrize")
            for name in re.split(r"[,\s]+", _names_of(mark))
        }
        callspec = getattr(item, "callspec", None)
        if callspec is not None and not set(callspec.params) <= own:
            return False
        for name in getattr(item, "fixturenames", ()):
            definitions = item._fixtureinfo.name2fixturedefs.get(name, ())
            for definition in definitions:
                code = body_of(definition.func)
                if code is None or not _is_installed(code.co_filename):
                    return False
        owner = getattr(item, "cls", None)
        for name in _SETUPS:
            code = body_of(getattr(owner, name, None))
            if code is not None and not _is_installed(code.co_filename):
                return False
        return not any(hasattr(item.module, name) for name in _MODULE_SETUPS)

    def _is_of_tests(self, path: str) -> bool:
        """Whether the file is there for tests, and not the code under test."""
        below = os.path.relpath(path, str(self.item.config.rootpath))
        own = self.code is not None and path == self.code.co_filename
        return own or ("test" in below and not _is_installed(path))


def children_ended() -> int:
    """A number that grows with every child process that has ended."""
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt


def _asserts(code: CodeType) -> bool:
    source = source_of(code)
    return source is not None and checks.asserts_anything(source)


def _is_installed(path: str) -> bool:
    """Whether the file belongs to an installed distribution or to Python, not to the project."""
    parts = re.split(r"[\\/]", path)
    return bool({"site-packages", "dist-packages"} & set(parts)) or path.startswith(
        (os.path.dirname(_LIBRARY), "<")
    )


def _names_of(mark: Any) -> str:
    names = mark.args[0] if mark.args else mark.kwargs.get("argnames", "")
    return names if isinstance(names, str) else ",".join(names)
