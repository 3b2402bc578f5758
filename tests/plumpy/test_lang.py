"""Declarations about methods."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from plumpy import lang


class Base:
    @lang.protected(check=True)
    def inner(self) -> str:
        return "inner"

    def outer(self) -> str:
        return self.inner()


class Child(Base):
    @lang.override(check=True)
    def outer(self) -> str:
        return self.inner()

    @lang.override(check=True)
    def nothing(self) -> None: ...


def test_protected_methods_are_for_the_class_and_its_children() -> None:
    assert Base().outer() == "inner"
    assert Child().outer() == "inner"
    with pytest.raises(RuntimeError, match="Cannot access protected function inner"):
        Base().inner()


def test_override_has_to_override() -> None:
    with pytest.raises(RuntimeError, match="does not override a superclass method"):
        Child().nothing()
    with pytest.raises(RuntimeError, match="only use the override decorator on member functions"):
        lang.override(check=True)(lambda: 1)()


def function() -> None: ...


@pytest.mark.parametrize("decorator", [lang.protected, lang.override])
def test_decorators_do_nothing_unless_asked_to(decorator: Any) -> None:
    assert decorator()(function) is function
    assert decorator(check=False)(function) is function
    with pytest.raises(TypeError, match="unsupported callable"):
        decorator()(1)


def test_properties_may_be_decorated() -> None:
    class Has:
        @lang.protected(check=True)
        @property
        def value(self) -> int:
            return 1

        def get(self) -> int:
            return self.value  # type: ignore[return-value]

    assert Has().get() == 1
    with pytest.raises(RuntimeError, match="protected"):
        Has().value


def test_null_equals_its_copies_and_nothing_else() -> None:
    assert copy.deepcopy(lang.NULL) == lang.NULL
    assert lang.NULL != None  # noqa: E711
    with pytest.raises(TypeError, match="unhashable"):
        hash(lang.NULL)
