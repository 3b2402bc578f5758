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


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("decorator", [lang.protected, lang.override])
def test_decorators_are_for_member_functions(decorator: Any, check: bool) -> None:
    """As in 0.26.1 they look at what they decorate, also where calls are not checked."""
    name = decorator.__name__
    with pytest.raises(RuntimeError, match=f"only use the {name} decorator on member functions"):

        @decorator(check=check)
        def function() -> None: ...

    with pytest.raises(RuntimeError, match=f"{name.capitalize()} must go after @property"):
        decorator(check=check)(property(lambda self: 1))
    with pytest.raises(TypeError, match="unsupported callable"):
        decorator(check=check)(1)


@pytest.mark.parametrize("decorator", [lang.protected, lang.override])
def test_decorators_do_nothing_unless_asked_to(decorator: Any) -> None:
    assert decorator()(Base.outer) is Base.outer
    assert decorator(check=False)(Base.outer) is Base.outer


def test_the_function_of_a_property_may_be_decorated() -> None:
    class Has:
        @property
        @lang.protected(check=True)
        def value(self) -> int:
            return 1

        def get(self) -> int:
            return self.value

    assert Has().get() == 1
    with pytest.raises(RuntimeError, match="protected"):
        Has().value


def test_null_equals_its_copies_and_nothing_else() -> None:
    assert copy.deepcopy(lang.NULL) == lang.NULL
    assert lang.NULL != None  # noqa: E711
    with pytest.raises(TypeError, match="unhashable"):
        hash(lang.NULL)
