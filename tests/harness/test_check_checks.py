"""The rules that tell a check that may fail a test from one that cannot."""

from __future__ import annotations

import ast
import textwrap

import pytest

from harness.check.probe import checks
from harness.check.probe.checks import Check, Ran

EFFECTIVE = ""
NOTHING = "asserts-nothing"
SWALLOWED = "swallowed-assertion"


def function(source: str) -> ast.FunctionDef:
    [node] = ast.parse(textwrap.dedent(source)).body
    assert isinstance(node, ast.FunctionDef)
    return node


def found(
    body: str, ran: list[int] | None = None, mocks: frozenset[str] = frozenset()
) -> list[Check]:
    """The checks of a body that begins in line 2, of which every line ran if none is named."""
    node = function(f"def f():\n {body}")
    return checks.checks_of(node, {node: Ran(list(range(1, 20)) if ran is None else ran)}, mocks)


def kinds(body: str, ran: list[int] | None = None) -> list[str]:
    return [check.kind for check in found(body, ran)]


@pytest.mark.parametrize(
    "body",
    [
        "assert g()",
        "assert False",
        "raise x",
        "self.assertEqual(g(), 1)",
        "await check_it(g())",
        "x = expect(g())",
        "with pytest.raises(E): g() < 1",
        "pytest.raises(E, g)",
        "self.assertRaises(E, g)",
        "(lambda: pytest.fail())",
        "try:\n  assert g()\n except KeyError:\n  pass",
        "try:\n  assert g()\n except Exception as e:\n  keep(e)",
        "try:\n  assert g()\n except Exception:\n  pass\n else:\n  h()",
        "while g():\n  with suppress(AssertionError):\n   assert g()",
        "with suppress(KeyError):\n  assert g()",
        "with other(AssertionError):\n  assert g()",
        "with suppress(Exception), pytest.raises(E):\n  g()",
        "class X:\n  def run(self):\n   assert g()",
        "def inner():\n  assert g()",
        "assert g() or h()",
        "assert () or ''",
        "self.assertTrue(g(), 3)",
        "if g():\n  return\n assert h()",
        "self.check(x) == 3",
    ],
)
def test_check_that_may_fail_the_test(body: str) -> None:
    assert EFFECTIVE in kinds(body)


@pytest.mark.parametrize(
    "body",
    ["g()", "x = g() == 1", "m.asset", "assert True", "x = m.assert_called", "g() and h()", "x"],
)
def test_no_check_at_all(body: str) -> None:
    assert kinds(body) == []


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("g() == 1", 2),
        ("await g() == 1", 2),
        ("not g()", 2),
        ("x = g()\n x in y", 3),
        ("g() == 1 and g() < 2", 2),
        ("[x == 1 for x in g()]", 2),
        ("all(x == 1 for x in g())", 2),
        ("isinstance(g(), int)", 2),
        ("for x in g():\n  x == 1", 3),
    ],
)
def test_answer_that_is_thrown_away(body: str, line: int) -> None:
    why = "the value of this comparison is thrown away"
    assert found(body) == [Check(line, NOTHING, why)]


@pytest.mark.parametrize(
    "body", ["(x == 1 for x in g())", "(check(x) for x in y)", "map(check, x)"]
)
def test_what_nothing_iterates_over(body: str) -> None:
    assert found(body) == [Check(2, NOTHING, "nothing iterates over what is made here")]


@pytest.mark.parametrize(
    "body",
    [
        "assert (g() == 1, 'text')",
        "assert (x == 1 for x in g())",
        "assert lambda: g()",
        "assert g() == 1 or 2",
        "assert g() or (x, y)",
        "self.assertTrue((g(), 1))",
        "self.assertIsNotNone(lambda: g())",
    ],
)
def test_assertion_that_always_holds(body: str) -> None:
    [check] = found(body)
    assert check.kind == NOTHING
    assert check.why.startswith("this assertion always holds: ")


@pytest.mark.parametrize("body", ["pytest.raises(E)", "self.assertRaises(E, msg='x')", "warns()"])
def test_expectation_that_is_never_entered(body: str) -> None:
    [check] = found(body)
    assert check.kind == NOTHING
    assert check.why.endswith("() was made here and never entered")


@pytest.mark.parametrize(("body", "line"), [("m()\n m.assert_called_once", 3), ("self.fail", 0)])
def test_assertion_that_is_not_called(body: str, line: int) -> None:
    why = "this statement names an assertion and does not call it"
    assert found(body) == ([Check(line, NOTHING, why)] if line else [])


def test_assertion_of_a_mock_by_a_wrong_name() -> None:
    for body in ("m.called_once_with(1)", "assert m.has_calls([])"):
        [check] = found(body, mocks=frozenset({"m"}))
        assert (check.line, check.kind) == (2, NOTHING)
    assert found("m.called_once_with(1)") == []
    assert kinds("assert m.has_calls([])") == [EFFECTIVE]


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("with suppress(AssertionError):\n  assert g()", 3),
        ("g()\n with contextlib.suppress(Exception):\n  assert g()", 4),
        ("try:\n  assert g()\n except Exception:\n  pass", 3),
        ("try:\n  g()\n  assert g()\n except AssertionError as e:\n  print(e)", 4),
        ("try:\n  assert g()\n except (AssertionError, KeyError):\n  return", 3),
        ("try:\n  self.assertEqual(g(), 1)\n except BaseException:\n  pass", 3),
        ("try:\n  assert g()\n finally:\n  return", 3),
    ],
)
def test_assertion_whose_failure_is_hidden(body: str, line: int) -> None:
    why = "whether this assertion holds or not, the block around it hides it"
    assert found(body) == [Check(line, SWALLOWED, why)]


def test_failure_that_is_meant() -> None:
    """What follows the assertion fails the test if it holds."""
    body = "try:\n  assert g()\n  pytest.fail()\n except AssertionError:\n  pass"
    assert kinds(body) == [EFFECTIVE, EFFECTIVE]


@pytest.mark.parametrize(
    "body",
    [
        "return\n assert g()",
        "if False:\n  assert g()",
        "if 1:\n  g()\n else:\n  self.assertEqual(g(), 1)",
        "for x in g():\n  continue\n  assert x",
    ],
)
def test_assertion_that_is_never_reached(body: str) -> None:
    [check] = [one for one in found(body, [2]) if one.kind]
    assert check[1:] == (NOTHING, "this assertion can never be reached")


def test_what_is_dead_and_could_not_hold_is_no_check() -> None:
    assert found("return\n assert False", [2]) == []
    assert found("return\n raise NotImplementedError", [2]) == []


@pytest.mark.parametrize(
    "body",
    ["g() == 1", "assert (1, 2)", "m.assert_called", "with suppress(Exception):\n  assert g()"],
)
def test_only_lines_that_ran_count(body: str) -> None:
    assert found(body, [1]) == []


class TestFunctionInside:
    @staticmethod
    def found(source: str, ran: Ran, rest: str = "g(inner)") -> list[Check]:
        node = function(f"def f():\n def inner():\n  {source}\n {rest}")
        return checks.checks_of(node, {node: Ran([2, 4]), node.body[0]: ran})  # type: ignore[dict-item]

    def test_never_entered(self) -> None:
        why = "the only assertion stands in 'inner', whose body was never entered"
        assert self.found("assert g()", Ran([], entered=False)) == [Check(3, NOTHING, why)]

    @pytest.mark.parametrize("source", ["assert False", "raise x", "self.fail()", "pytest.fail()"])
    def test_never_entered_as_it_must_not_be(self, source: str) -> None:
        assert self.found(source, Ran([], entered=False)) == [Check(2)]

    def test_failed(self) -> None:
        why = "this assertion in 'inner' did not hold, which did not fail the test"
        assert self.found("assert g()", Ran([3], failed=True)) == [Check(3, SWALLOWED, why)]

    def test_failed_in_something_else(self) -> None:
        assert self.found("assert g(); h()", Ran([3, 5], failed=True)) == [Check(2)]

    def test_held(self) -> None:
        assert self.found("assert g()", Ran([3])) == [Check(2)]

    def test_without_assertion(self) -> None:
        assert self.found("g()", Ran([], entered=False)) == []

    def test_its_name_says_nothing(self) -> None:
        node = function("def f():\n def check():\n  assert g()\n check()")
        ran = {node: Ran([2, 4]), node.body[0]: Ran([3], failed=True)}
        assert [c.kind for c in checks.checks_of(node, ran)] == [SWALLOWED]  # type: ignore[arg-type]
