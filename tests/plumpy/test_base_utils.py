"""The check that overriding methods reach their base."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from plumpy.base import call_with_super_check, super_check
from plumpy.base.utils import extends, run_hook


class Base:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    @super_check
    def hook(self, *args: Any) -> None:
        """What it is for."""
        self.seen.append(args)


class Calls(Base):
    def hook(self, *args: Any) -> None:
        super().hook(*args)


class Extends(Base):
    @extends
    def hook(self, *args: Any) -> None:
        self.seen.append("extended")


class ExtendsAgain(Extends):
    @extends
    def hook(self, *args: Any) -> None:
        self.seen.append("again")


class ExtendsWhatCalls(Calls):
    @extends
    def hook(self, *args: Any) -> None:
        self.seen.append("extended")


class ExtendsWithAnotherBetween(ExtendsAgain, Calls):
    """Its bases in order: ExtendsAgain, Extends, Calls, Base."""


class Forgets(Base):
    def hook(self, *args: Any) -> None:
        pass


class Nests(Base):
    def hook(self, *args: Any) -> None:
        if args == ("outer",):
            call_with_super_check(self.hook, "inner")
        super().hook(*args)


@pytest.mark.parametrize("call", [call_with_super_check, None], ids=["function", "run_hook"])
@pytest.mark.parametrize(
    ("cls", "seen"),
    [
        (Base, [("outer",)]),
        (Calls, [("outer",)]),
        (Nests, [("inner",), ("outer",)]),
        (Extends, [("outer",), "extended"]),
        (ExtendsAgain, [("outer",), "extended", "again"]),
        (ExtendsWhatCalls, [("outer",), "extended"]),
        (ExtendsWithAnotherBetween, [("outer",), "extended", "again"]),
    ],
)
def test_chain_that_reaches_the_base(cls: type[Base], seen: Any, call: Any) -> None:
    obj = cls()
    if call is None:
        run_hook(obj, "hook", "outer")
    else:
        call(obj.hook, "outer")
    assert obj.seen == seen


class ExtendsWhatForgets(Forgets):
    @extends
    def hook(self, *args: Any) -> None:
        self.seen.append("extended")


def test_an_extension_is_not_called_through_the_check_where_that_is_not_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("plumpy.base.utils.call_with_super_check")
    obj = ExtendsAgain()
    run_hook(obj, "hook")
    assert obj.seen == [(), "extended", "again"]


def test_an_extension_keeps_name_signature_and_docstring() -> None:
    assert Extends.hook.__qualname__ == "Extends.hook"
    assert str(inspect.signature(Extends.hook)) == "(self, *args: 'Any') -> 'None'"


@pytest.mark.parametrize("cls", [Forgets, ExtendsWhatForgets])
def test_chain_that_does_not(cls: type[Base]) -> None:
    obj = cls()
    for call in (lambda: call_with_super_check(obj.hook), lambda: run_hook(obj, "hook")):
        with pytest.raises(AssertionError) as raised:
            call()
        assert str(raised.value) == (
            f"Base 'hook' was not called from '{cls}'\nHint: Did you forget to call the super?"
        )


def test_direct_call_is_refused() -> None:
    with pytest.raises(AssertionError, match="The function 'hook' was not called through"):
        Base().hook()


def test_checked_method_keeps_name_and_docstring() -> None:
    assert Base.hook.__name__ == "hook"
    assert Base.hook.__doc__ == "What it is for."
