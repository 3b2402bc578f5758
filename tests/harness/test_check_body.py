"""The rules over the source of a test body, and the watchers that say what ran of it."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import sys
import textwrap
from collections.abc import Iterator
from types import CodeType
from typing import Any
from unittest.mock import Mock

import pytest

from harness.check.probe import body, functions
from harness.check.probe.watch import MonitoringWatcher, TracingWatcher, Watcher, make_watcher


def function(source: str) -> ast.FunctionDef:
    [node] = ast.parse(textwrap.dedent(source)).body
    assert isinstance(node, ast.FunctionDef)
    return node


class TestCannotFail:
    @pytest.mark.parametrize(
        "source",
        [
            "pass",
            "...",
            "return",
            "x = 1; assert x",
            "assert (1, 'text')",
            "1 == 2",
            "x = lambda: g()",
            "with pytest.raises(Exception): raise Exception",
            "with raises(ValueError, match='x') as e: raise ValueError('x')\n assert e.value",
            "with self.assertRaises((KeyError, ValueError)): raise KeyError",
            "with pytest.raises(asyncio.TimeoutError): raise asyncio.TimeoutError",
        ],
    )
    def test_constants(self, source: str) -> None:
        names = {"asyncio": asyncio}
        assert body.cannot_fail(function(f"def f():\n {source}"), [2, 3], names)

    @pytest.mark.parametrize(
        "source",
        [
            "g()",
            "assert x",
            "x.y",
            "import x",
            "del x",
            "raise x",
            "x = y",
            "x, y = 1, 2",
            "f'{x}'",
            "with x: pass",
            "assert [i for i in x]",
            "class X: pass",
            "try: pass\n finally: pass",
            "with pytest.raises(Exception): g()",
            "with pytest.raises(Exception): raise x",
            "with pytest.raises(Exception): raise Exception(x)",
            "with pytest.raises(Mine): raise Mine",
            "with pytest.raises(Exception): raise Exception from x",
            "with g(Exception): raise Exception",
        ],
    )
    def test_anything_else(self, source: str) -> None:
        names = {"Mine": type("Mine", (Exception,), {"__module__": __name__})}
        assert body.cannot_fail(function(f"def f(x):\n {source}"), [2, 3], names) is None

    def test_only_lines_that_ran_count(self) -> None:
        node = function(
            """
            def f():
                if 0:
                    g()
                assert 1
            """
        )
        assert body.cannot_fail(node, [3, 5]) == "the assertion on line 5 compares constants"
        assert body.cannot_fail(node, [3, 4, 5]) is None

    def test_assertion_over_several_lines(self) -> None:
        node = function(
            """
            def f():
                assert (
                    g()
                )
            """
        )
        assert body.cannot_fail(node, [4]) is None


class TestCoroutineUse:
    @pytest.mark.parametrize(
        ("statement", "how"),
        [
            ("c.get()", "dropped"),
            ("return c.get()", "returned"),
            ("assert c.get()", "asserted"),
            ("assert c.get() != 3 and 1", "asserted"),
            ("x = c.get()", "dropped"),
            ("x = c.get(); assert x", "asserted"),
            ("x = c.get(); return x", "returned"),
            ("self.assertTrue(c.get())", "asserted"),
            ("x = c.get(); self.assertIsNotNone(x, 'text')", "asserted"),
        ],
    )
    def test_thrown_away(self, statement: str, how: str) -> None:
        use = body.coroutine_use(function(f"def f(c):\n {statement}"), 2, "get")
        assert use is not None
        assert use.how == how

    @pytest.mark.parametrize(
        "statement",
        [
            "g(c.get())",
            "x = c.get(); g(x)",
            "x = c.get(); x.close()",
            "x = c.get(); y = [x]",
            "x = [c.get()]",
            "self.assertEqual(1, c.get())",
            "self.assertIsInstance(c.get(), Coroutine)",
            "with pytest.raises(E): c.get()",
            "x = c.get(); (lambda: x)",
            "self.x = c.get()",
            "c.get(); c.get()",
            "c.other()",
        ],
    )
    def test_handed_on_or_unclear(self, statement: str) -> None:
        assert body.coroutine_use(function(f"def f(c):\n {statement}"), 2, "get") is None


class TestInnermost:
    def test_follows_what_wraps(self) -> None:
        import functools

        def written() -> None: ...

        @functools.wraps(written)
        def wrapper() -> None: ...

        class Owner:
            method = written
            static = staticmethod(wrapper)

        for function in (wrapper, functools.partial(wrapper), Owner().method, Owner.static):
            assert functions.innermost(function) is written

    def test_ends_on_a_circle(self) -> None:
        def one() -> None: ...

        one.__wrapped__ = one  # type: ignore[attr-defined]
        assert functions.body_of(one) is one.__code__

    @pytest.mark.parametrize("function", [len, None, object()])
    def test_what_has_no_body(self, function: Any) -> None:
        assert functions.body_of(function) is None


def subject(flag: bool) -> None:
    if flag:
        str(1)


async def coroutine_subject() -> None:
    str(1)


def lines(watcher: Watcher, code: CodeType) -> list[int]:
    return [line - code.co_firstlineno for line in watcher.lines(code)]


@pytest.fixture(params=["tracing", "monitoring"])
def watcher(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watcher]:
    if request.param == "tracing":
        if sys.gettrace() is not None:
            pytest.skip("another tracer is active")
        monkeypatch.setattr("threading.settrace", lambda function: None)
        yield TracingWatcher()
        return
    if sys.version_info < (3, 12):
        pytest.skip("sys.monitoring came with Python 3.12")
    made = make_watcher()
    assert isinstance(made, MonitoringWatcher)
    yield made
    made.release()


class TestWatcher:
    def test_lines_of_each_run(self, watcher: Watcher) -> None:
        code = subject.__code__
        for flag, expected in ((True, [1, 2]), (False, [1]), (True, [1, 2])):
            watcher.watch(code)
            watcher.begin()
            subject(flag)
            assert watcher.entered(code)
            assert not watcher.blind
            watcher.end()
            assert lines(watcher, code) == expected

    def test_not_entered(self, watcher: Watcher) -> None:
        watcher.watch(subject.__code__)
        watcher.begin()
        watcher.end()
        assert not watcher.entered(subject.__code__)

    def test_coroutine_closed_before_it_started(self, watcher: Watcher) -> None:
        code = coroutine_subject.__code__
        watcher.watch(code)
        watcher.begin()
        coroutine_subject().close()
        assert not watcher.entered(code)
        with pytest.raises(StopIteration):
            coroutine_subject().send(None)
        assert watcher.entered(code)
        watcher.end()

    def test_left_by_a_failed_assertion(self, watcher: Watcher) -> None:
        def holds(flag: bool) -> None:
            assert flag

        watcher.watch(holds.__code__)
        watcher.begin()
        with pytest.raises(AssertionError):
            holds(False)
        assert watcher.failed(holds.__code__)
        holds(True)
        assert not watcher.failed(holds.__code__)
        watcher.end()

    def test_failed_assertion_that_the_body_catches(self, watcher: Watcher) -> None:
        def catches() -> None:
            with contextlib.suppress(AssertionError):
                holds()

        def holds() -> None:
            raise AssertionError

        watcher.watch(catches.__code__)
        watcher.begin()
        catches()
        assert not watcher.failed(catches.__code__)
        watcher.end()

    def test_mocks_that_are_called_by_a_wrong_name(self, watcher: Watcher) -> None:
        def calls() -> None:
            one, other = Mock(called_with=str), str
            one.called_with(other)

        watcher.watch(calls.__code__)
        watcher.begin()
        calls()
        assert watcher.mocks(calls.__code__) == {"one"}
        watcher.end()

    def test_returned_coroutine_is_not_kept_alive(self, watcher: Watcher) -> None:
        def returns() -> Any:
            return coroutine_subject()

        watcher.watch(returns.__code__)
        watcher.begin()
        coroutine = returns()
        watcher.end()
        assert watcher.returned_unstarted(returns.__code__)
        coroutine.close()
        assert not watcher.returned_unstarted(returns.__code__)
        del coroutine
        assert watcher.returned(returns.__code__)
        assert not watcher.returned_unstarted(returns.__code__)


def test_tracer_gives_way_to_a_debugger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threading.settrace", lambda function: None)
    watcher = TracingWatcher()
    before = sys.gettrace()

    def debugger(*arguments: object) -> None:
        return None

    sys.settrace(debugger)
    try:
        watcher.begin()
        assert watcher.blind
        watcher.end()
        assert sys.gettrace() is debugger
    finally:
        sys.settrace(before)
