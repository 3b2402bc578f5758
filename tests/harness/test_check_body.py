"""The rules over the source of a test body, and the watchers that say what ran of it."""

from __future__ import annotations

import ast
import sys
import textwrap
from collections.abc import Iterator
from types import CodeType
from typing import Any

import pytest

from harness.check.probe import body, functions
from harness.check.probe.watch import MonitoringWatcher, TracingWatcher, Watcher, make_watcher


def function(source: str) -> ast.FunctionDef:
    [node] = ast.parse(textwrap.dedent(source)).body
    assert isinstance(node, ast.FunctionDef)
    return node


class TestAssertionThatCannotFail:
    @pytest.mark.parametrize(
        ("source", "line"),
        [
            ("with suppress(AssertionError):\n  assert g()", 3),
            ("g()\n with contextlib.suppress(Exception):\n  assert g()", 4),
            ("with suppress(KeyError):\n  assert g()", None),
            ("with suppress(AssertionError):\n  g()", None),
            ("with suppress(AssertionError):\n  assert g()\n assert g()", None),
            ("while g():\n  with suppress(AssertionError):\n   assert g()", None),
            ("with other(AssertionError):\n  assert g()", None),
        ],
    )
    def test_in_a_block_that_hides_it(self, source: str, line: int | None) -> None:
        node = function(f"def f():\n {source}")
        assert body.hidden_assertion(node, [2, 3, 4]) == line

    @pytest.mark.parametrize(
        ("source", "line"),
        [
            ("m()\n m.assert_called_once", 3),
            ("self.assertTrue", 2),
            ("m.assert_called_once()", None),
            ("m.assert_called\n m.assert_called_with(1)", None),
            ("m.asset", None),
            ("x = m.assert_called", None),
        ],
    )
    def test_that_is_not_called(self, source: str, line: int | None) -> None:
        assert body.uncalled_assertion(function(f"def f():\n {source}"), [2, 3]) == line

    def test_only_lines_that_ran_count(self) -> None:
        node = function(
            "def f(m):\n if m:\n  m.assert_called\n  with suppress(Exception):\n   assert m"
        )
        assert body.uncalled_assertion(node, [2]) is None
        assert body.hidden_assertion(node, [2]) is None


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
        ],
    )
    def test_constants(self, source: str) -> None:
        assert body.cannot_fail(function(f"def f():\n {source}"), [2])

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
        ],
    )
    def test_anything_else(self, source: str) -> None:
        assert body.cannot_fail(function(f"def f(x):\n {source}"), [2, 3]) is None

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
