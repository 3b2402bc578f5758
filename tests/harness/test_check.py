"""``harness check`` on whole trees, in the interpreter that runs these tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from harness import cli
from harness.check import Kind, check
from harness.check.model import Finding
from harness.errors import HarnessError

HEAD = """
import asyncio
import functools
import unittest

import pytest


async def inner():
    assert False, "nobody ran me"

"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project of its own, with no configuration but its root."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def write(tree: Path, source: str, name: str = "test_it.py") -> Path:
    path = tree / name
    path.write_text(HEAD + textwrap.dedent(source))
    return path


def findings(tree: Path, source: str, *options: str) -> dict[str, Finding]:
    """Check one file; findings by the last part of the test's id. Nothing may be left out."""
    [run] = check([str(write(tree, source))], options=options, limit=60)
    assert run.problems == []
    assert run.ran == run.collected
    return {finding.test.split("::")[-1]: finding for finding in run.findings}


def kinds(tree: Path, source: str, *options: str) -> dict[str, Kind]:
    return {name: finding.kind for name, finding in findings(tree, source, *options).items()}


class TestAsync:
    def test_async_method_of_a_testcase(self, tree: Path) -> None:
        found = findings(
            tree,
            """
            class Case(unittest.TestCase):
                async def test_plain(self):
                    assert False

                @pytest.mark.asyncio
                async def test_marked(self):
                    assert False

                def test_sync(self):
                    self.assertTrue(str(1))

            class Fine(unittest.IsolatedAsyncioTestCase):
                async def test_isolated(self):
                    self.assertEqual(await asyncio.sleep(0, 3), 3)
            """,
        )
        assert {name: f.kind for name, f in found.items()} == {
            "test_plain": Kind.ASYNC_IN_TESTCASE,
            "test_marked": Kind.ASYNC_IN_TESTCASE,
        }
        assert found["test_plain"].seen.startswith("passed, body never entered; its coroutine")
        assert "mark 'asyncio' has no effect" in found["test_marked"].seen

    def test_place_is_the_line_of_the_def(self, tree: Path) -> None:
        found = findings(
            tree,
            """
            class Case(unittest.TestCase):
                @pytest.mark.asyncio
                @functools.lru_cache(maxsize=None)
                async def test_marked(self):
                    assert False
            """,
        )
        path = tree / "test_it.py"
        line = path.read_text().splitlines().index("    async def test_marked(self):") + 1
        assert (found["test_marked"].file, found["test_marked"].line) == (str(path), line)

    def test_coroutine_that_is_never_awaited(self, tree: Path) -> None:
        assert kinds(
            tree,
            """
            class Case(unittest.TestCase):
                def test_returned(self):
                    return inner()

            def test_dropped():
                inner()

            def test_asserted_on():
                assert inner()

            def test_result_asserted_on():
                result = inner()
                assert result is not None

            def swallow(function):
                @functools.wraps(function)
                def wrapper(*args):
                    function(*args)
                return wrapper

            @swallow
            async def test_decorated():
                assert False

            @pytest.mark.asyncio
            async def test_dropped_in_async():
                inner()
            """,
        ) == dict.fromkeys(
            [
                "test_returned",
                "test_dropped",
                "test_asserted_on",
                "test_result_asserted_on",
                "test_decorated",
                "test_dropped_in_async",
            ],
            Kind.COROUTINE_NOT_AWAITED,
        )

    def test_coroutine_that_is_meant_not_to_run(self, tree: Path) -> None:
        assert not kinds(
            tree,
            """
            def test_warns():
                with pytest.warns(RuntimeWarning):
                    inner()

            def test_recwarn(recwarn):
                inner()
                assert recwarn

            def test_recwarn_popped(recwarn):
                inner()
                recwarn.pop(RuntimeWarning)

            def test_closed():
                coroutine = inner()
                coroutine.close()

            def test_handed_on():
                assert asyncio.iscoroutine(inner())

            @pytest.mark.filterwarnings("ignore:.*never awaited")
            def test_filtered():
                inner()

            def test_refused():
                loop = asyncio.new_event_loop()
                loop.close()
                with pytest.raises(RuntimeError):
                    loop.run_until_complete(inner())

            def test_something_else_is_asserted():
                inner()
                assert str(1) == "1"
            """,
        )

    def test_generators(self, tree: Path) -> None:
        found = kinds(
            tree,
            """
            @pytest.mark.asyncio
            async def test_marked():
                yield
                assert False

            class Case(unittest.TestCase):
                async def test_async(self):
                    yield
                    assert False

                def test_sync(self):
                    yield
                    assert False
            """,
        )
        assert found == dict.fromkeys(
            ["test_marked", "test_async", "test_sync"], Kind.GENERATOR_TEST
        )

    def test_unmarked_async_test_fails_by_itself_in_this_pytest(self, tree: Path) -> None:
        """Since pytest 8.4: it cannot be mistaken for a pass, so it is no finding."""
        [run] = check([str(write(tree, "async def test_it(): assert False"))], limit=60)
        assert dict(run.outcomes) == {"failed": 1}
        assert run.findings == []

    def test_unmarked_async_test_that_a_plugin_does_not_run(self, tree: Path) -> None:
        (tree / "conftest.py").write_text(
            "import inspect, pytest\n"
            "@pytest.hookimpl(tryfirst=True)\n"
            "def pytest_pyfunc_call(pyfuncitem):\n"
            "    if 'skip' in pyfuncitem.name:\n"
            "        pytest.skip('async def function and no plugin for it')\n"
            "    return True if 'passed' in pyfuncitem.name else None\n"
        )
        found = findings(
            tree,
            """
            async def test_passed(): assert False
            async def test_skipped(): assert False
            """,
        )
        assert {name: f.kind for name, f in found.items()} == {
            "test_passed": Kind.UNHANDLED_ASYNC,
            "test_skipped": Kind.UNHANDLED_ASYNC,
        }
        assert found["test_passed"].seen == "passed, body never entered"
        assert found["test_skipped"].seen.endswith(
            "(async def function and no plugin for it), body never entered"
        )

    def test_async_set_up_of_a_testcase(self, tree: Path) -> None:
        found = findings(
            tree,
            """
            class Case(unittest.TestCase):
                async def setUp(self):
                    assert False

                def test_it(self):
                    self.assertTrue(str(1))
            """,
        )
        assert found["test_it"].kind is Kind.ASYNC_FIXTURE_NOT_AWAITED
        assert "'setUp' is async" in found["test_it"].seen

    @pytest.mark.parametrize("body", ["assert False", "yield 3"])
    def test_async_fixture(self, tree: Path, body: str) -> None:
        """pytest 9 makes it an error; where a plugin sets fixtures up, it is a bare coroutine."""
        (tree / "conftest.py").write_text(
            "import pytest\n"
            "@pytest.hookimpl(tryfirst=True)\n"
            "def pytest_fixture_setup(fixturedef, request):\n"
            "    if fixturedef.argname == 'bare':\n"
            "        value = fixturedef.func()\n"
            "        fixturedef.cached_result = (value, fixturedef.cache_key(request), None)\n"
            "        return value\n"
        )
        found = findings(
            tree,
            f"""
            @pytest.fixture
            async def bare():
                {body}

            def test_it(bare):
                assert bare
            """,
        )
        assert found["test_it"].kind is Kind.ASYNC_FIXTURE_NOT_AWAITED
        assert "fixture 'bare'" in found["test_it"].seen

    def test_async_tests_that_run(self, tree: Path) -> None:
        assert not kinds(
            tree,
            """
            import pytest_asyncio

            @pytest_asyncio.fixture
            async def value():
                yield await asyncio.sleep(0, 3)

            @pytest.mark.asyncio
            async def test_marked(value):
                assert value == 3

            @pytest.mark.asyncio
            @pytest.mark.parametrize("n", [1, 2])
            async def test_parametrised(n):
                assert n

            @pytest.mark.asyncio
            async def test_without_assertion():
                await asyncio.sleep(0)

            @pytest.mark.asyncio
            class TestClass:
                async def test_method(self, value):
                    assert value

            def test_runs_it_itself():
                with pytest.raises(AssertionError):
                    asyncio.run(inner())
            """,
        )

    def test_body_in_another_thread(self, tree: Path) -> None:
        assert not kinds(
            tree,
            """
            import threading

            def in_thread(function):
                @functools.wraps(function)
                def wrapper():
                    thread = threading.Thread(target=function)
                    thread.start()
                    thread.join()
                return wrapper

            @in_thread
            def test_it():
                assert str(1)
            """,
        )

    def test_body_in_a_child_process(self, tree: Path) -> None:
        """Nothing is shown about what ran out of sight, so nothing is said."""
        assert not kinds(
            tree,
            """
            import os

            def in_child(function):
                @functools.wraps(function)
                def wrapper():
                    pid = os.fork()
                    if not pid:
                        function()
                        os._exit(0)
                    assert os.waitpid(pid, 0)[1] == 0
                return wrapper

            @in_child
            def test_it():
                assert str(1)
            """,
        )


class TestCannotFail:
    def test_bodies_of_constants(self, tree: Path) -> None:
        found = kinds(
            tree,
            '''
            def test_pass():
                pass

            def test_docstring():
                """Nothing."""

            def test_true():
                assert True

            def test_constants():
                expected = 3
                assert expected == 3, "never"

            def test_empty_loop():
                for item in []:
                    assert item == 3

            def test_never_called():
                async def check():
                    assert False

            @pytest.mark.parametrize("n", [1, 2])
            def test_parameter(n):
                pass

            @pytest.mark.asyncio
            async def test_async():
                pass
            ''',
        )
        assert found == dict.fromkeys(
            [
                "test_pass",
                "test_docstring",
                "test_true",
                "test_constants",
                "test_empty_loop",
                "test_never_called",
                "test_parameter[1]",
                "test_parameter[2]",
                "test_async",
            ],
            Kind.ASSERTS_NOTHING,
        )

    def test_bodies_that_may_fail(self, tree: Path) -> None:
        assert not kinds(
            tree,
            """
            @pytest.fixture
            def resource():
                return str(1)

            def test_of_the_fixture(resource):
                pass

            def test_import():
                import json

            def test_call():
                str(1)

            def test_attribute():
                inner.__name__

            def test_subscript():
                (lambda: [1])()[0]

            def test_global():
                asyncio

            @pytest.mark.parametrize("n", [1, 2])
            def test_parameter(n):
                assert n

            class TestSetUp:
                def setup_method(self):
                    str(1)

                def test_of_the_set_up(self):
                    pass

            class Case(unittest.TestCase):
                def setUp(self):
                    str(1)

                def test_of_the_set_up(self):
                    pass

            @pytest.mark.parametrize("resource", [1], indirect=True)
            def test_indirect(resource):
                pass
            """,
        )

    def test_assertion_that_the_test_itself_swallows(self, tree: Path) -> None:
        found = findings(
            tree,
            """
            def test_swallowed():
                try:
                    assert str(1) == "2"
                except Exception:
                    pass

            def test_held():
                try:
                    assert str(1) == "1"
                except Exception:
                    pass

            def test_held_beside_another():
                try:
                    assert str(1) == "1"
                except Exception:
                    pass
                assert str(2) == "2"

            def test_that_passes_either_way():
                try:
                    assert str(1) == "2"
                except AssertionError:
                    pass

            def test_meant():
                try:
                    assert str(1) == "2"
                    pytest.fail("it held")
                except AssertionError:
                    pass

            def test_kept():
                caught = None
                try:
                    assert str(1) == "2"
                except Exception as error:
                    caught = error
                assert caught

            def test_raised_elsewhere():
                try:
                    int("x")
                    assert str(1) == "1"
                except Exception:
                    pass
            """,
        )
        assert {name: f.kind for name, f in found.items()} == {
            "test_swallowed": Kind.SWALLOWED_ASSERTION,
            "test_held": Kind.SWALLOWED_ASSERTION,
            "test_that_passes_either_way": Kind.SWALLOWED_ASSERTION,
        }
        source = (tree / "test_it.py").read_text().splitlines()
        assert source[found["test_swallowed"].line - 1].strip() == 'assert str(1) == "2"'

    def test_checks_that_cannot_fail_the_test(self, tree: Path) -> None:
        found = findings(
            tree,
            """
            import threading
            from unittest import mock

            def test_raises_what_it_expects():
                with pytest.raises(Exception):
                    raise Exception

            def test_comparison():
                str(1) == "2"

            def test_generator():
                (str(n) == "2" for n in [1])

            def test_tuple():
                assert (str(1) == "2", "text")

            def test_mock():
                calls = mock.NonCallableMock(spec_set=["called_with"])
                calls.called_with = mock.Mock()
                calls.called_with(3)

            def test_after_return():
                text = str(1)
                return
                assert text == "2"

            def test_never_called():
                def check():
                    assert str(1) == "2"

            @pytest.mark.asyncio
            async def test_callback_that_comes_too_late():
                def check():
                    assert str(1) == "2"
                asyncio.get_running_loop().call_later(60, check)

            @pytest.mark.asyncio
            async def test_task_whose_failure_nobody_sees():
                async def check():
                    assert str(1) == "2"
                await asyncio.wait([asyncio.create_task(check())])

            async def fails():
                assert str(1) == "2"

            @pytest.mark.asyncio
            async def test_task_of_the_module():
                await asyncio.gather(fails(), return_exceptions=True)

            @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
            def test_thread():
                def check():
                    assert str(1) == "2"
                thread = threading.Thread(target=check)
                thread.start()
                thread.join()
            """,
        )
        swallowed = {
            "test_task_whose_failure_nobody_sees",
            "test_task_of_the_module",
            "test_thread",
        }
        nothing = {
            "test_raises_what_it_expects",
            "test_comparison",
            "test_generator",
            "test_tuple",
            "test_mock",
            "test_after_return",
            "test_never_called",
            "test_callback_that_comes_too_late",
        }
        assert {name: finding.kind for name, finding in found.items()} == {
            **dict.fromkeys(swallowed, Kind.SWALLOWED_ASSERTION),
            **dict.fromkeys(nothing, Kind.ASSERTS_NOTHING),
        }
        assert "'check', whose body was never entered" in found["test_never_called"].seen

    def test_something_else_that_asserts(self, tree: Path) -> None:
        (tree / "conftest.py").write_text(
            "import pytest\n"
            "@pytest.fixture\n"
            "def leaves_nothing():\n    yield\n    assert str(1) == '1'\n"
            "@pytest.fixture\n"
            "def prove():\n"
            "    def prove(value):\n        assert value\n"
            "    return prove\n"
        )
        (tree / "tools_for_tests.py").write_text("def prove(value):\n    assert value\n")
        assert not kinds(
            tree,
            """
            from unittest import mock

            import tools_for_tests
            from tools_for_tests import prove as other

            def here(value):
                assert value

            def proven(function):
                @functools.wraps(function)
                def wrapper(*args):
                    function(*args)
                    assert str(1)
                return wrapper

            class Prover:
                def prove(self):
                    assert str(1)

            class Case(unittest.TestCase):
                def prove(self):
                    assert str(1)

                def test_method(self):
                    self.prove()
                    str(1) == "1"

            class SetUp(unittest.TestCase):
                def tearDown(self):
                    assert str(1)

                def test_set_up(self):
                    str(1) == "1"

            def test_function():
                here(str(1))
                str(1) == "1"

            def test_import():
                other(str(1))
                str(1) == "1"

            def test_module():
                tools_for_tests.prove(str(1))
                str(1) == "1"

            def test_class():
                Prover().prove()
                str(1) == "1"

            def test_fixture(leaves_nothing):
                str(1) == "1"

            def test_function_of_a_fixture(prove):
                prove(str(1))
                str(1) == "1"

            @proven
            def test_decorator():
                str(1) == "1"

            def test_retry():
                seen = []
                def twice():
                    seen.append(1)
                    assert len(seen) == 2
                for _ in range(2):
                    try:
                        twice()
                    except AssertionError:
                        pass

            @pytest.mark.asyncio
            async def test_callback_that_must_not_run():
                def refuse():
                    raise AssertionError("it ran")
                asyncio.get_running_loop().call_later(60, refuse).cancel()

            def test_names_that_answer_to_anything():
                mock.call.called_with(1)
            """,
        )

    def test_decorator_that_never_calls_the_test(self, tree: Path) -> None:
        assert kinds(
            tree,
            """
            def nothing(function):
                @functools.wraps(function)
                def wrapper():
                    pass
                return wrapper

            @nothing
            def test_it():
                assert False
            """,
        ) == {"test_it": Kind.NEVER_ENTERED}

    def test_skips_and_expected_failures(self, tree: Path) -> None:
        assert not kinds(
            tree,
            """
            @pytest.mark.skip(reason="not here")
            async def test_skip(): ...

            @pytest.mark.skipif(True, reason="coroutines of generators are no async def")
            async def test_skipif(): ...

            @unittest.skip("no async def here")
            async def test_unittest_skip(): ...

            class Case(unittest.TestCase):
                @unittest.skip("not here")
                async def test_method(self): ...

                @unittest.expectedFailure
                def test_expected(self):
                    self.fail()

            @pytest.mark.asyncio
            @pytest.mark.xfail(run=False, reason="hangs")
            async def test_not_run(): ...

            @pytest.mark.asyncio
            async def test_skips_itself():
                pytest.skip("no async def here")

            @pytest.mark.xfail
            def test_fails():
                assert False
            """,
        )


class TestRun:
    def test_collection_error_does_not_hide_the_rest(self, tree: Path) -> None:
        write(tree, "import no_such_module_at_all\n", "test_broken.py")
        write(tree, "def test_it(): inner()\n")
        [run] = check([str(tree)], limit=60)
        assert [finding.test for finding in run.findings] == ["test_it.py::test_it"]
        [(where, reason)] = run.problems
        assert where == "test_broken.py"
        assert "no_such_module_at_all" in reason

    def test_ids_and_options_for_pytest(self, tree: Path) -> None:
        path = write(tree, "def test_a(): inner()\ndef test_b(): inner()\ndef test_c(): inner()\n")
        [run] = check(
            [f"{path}::test_a", f"{path}::test_b"], options=["-k", "not test_b"], limit=60
        )
        assert [finding.test for finding in run.findings] == ["test_it.py::test_a"]

    def test_configuration_of_the_project_counts(self, tree: Path) -> None:
        pytest.importorskip("xdist")
        (tree / "pytest.ini").write_text(
            "[pytest]\npython_functions = prove_*\ntestpaths = inside\naddopts = -x -n 2 --pdb\n"
        )
        (tree / "inside").mkdir()
        write(tree, "def prove_a(): inner()\ndef prove_b(): assert inner()\n", "inside/test_it.py")
        write(tree, "def prove_it(): inner()\n", "test_outside.py")
        [run] = check([str(tree)], limit=60)
        assert [finding.test.split("::")[-1] for finding in run.findings] == ["prove_a", "prove_b"]

    def test_a_run_without_the_cache_knows_no_option_of_it(self, tree: Path) -> None:
        (tree / "pytest.ini").write_text("[pytest]\naddopts = --strict-config\n")
        path = write(tree, "def test_it(): inner()\n")
        [run] = check([str(path)], options=["-p", "no:cacheprovider"], limit=60)
        assert (run.problems, len(run.findings)) == ([], 1)

    def test_nothing_is_written_into_the_project(self, tree: Path) -> None:
        pytest.importorskip("pytest_cov")
        (tree / "pytest.ini").write_text(
            "[pytest]\naddopts = --cov=. --cov-report=xml --junitxml=out.xml -o log_file=log.txt\n"
        )
        write(tree, "def test_it(): assert str(1)\n")
        before = sorted(tree.rglob("*"))
        [run] = check([str(tree)], limit=60)
        assert (run.problems, dict(run.outcomes)) == ([], {"passed": 1})
        assert sorted(tree.rglob("*")) == before

    def test_test_that_ends_the_interpreter_is_named(self, tree: Path) -> None:
        write(
            tree,
            "import os, signal\ndef test_a(): inner()\n"
            "def test_b(): os.kill(os.getpid(), signal.SIGKILL)\n",
        )
        [run] = check([str(tree)], limit=60)
        assert [finding.test for finding in run.findings] == ["test_it.py::test_a"]
        assert run.problems == [("test_it.py::test_b", "pytest was killed by SIGKILL")]

    def test_test_that_hangs_is_named(self, tree: Path) -> None:
        write(tree, "import threading\ndef test_it(): threading.Event().wait()\n")
        [run] = check([str(tree)], limit=3)
        [(where, reason)] = run.problems
        assert where == "test_it.py::test_it"
        assert reason.startswith("nothing happened for 3 s")

    def test_ended_together_with_its_pytest(self, tree: Path) -> None:
        pid, wait = tree / "pid", "threading.Event().wait()"
        os.mkfifo(pid)
        body = f"import os, threading\ndef test_a(): inner()\ndef test_b():\n open({str(pid)!r}, "
        path = write(tree, body + f"'w').write(str(os.getpid()))\n {wait}\n")
        command = [sys.executable, "-m", "harness", "check", str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            inside = int(pid.read_text())
            process.terminate()
            out, _ = process.communicate(timeout=60)
        assert process.returncode == 2
        assert "test_it.py::test_a" in out
        assert "not checked: test_it.py::test_b\n    interrupted" in out
        with pytest.raises(ProcessLookupError):
            os.kill(inside, 0)

    def test_tests_of_a_test_are_its_own_business(self, tree: Path) -> None:
        (tree / "conftest.py").write_text('pytest_plugins = "pytester"\n')
        assert not kinds(
            tree,
            """
            def test_it(pytester):
                pytester.makepyfile('''
                    import unittest
                    class Case(unittest.TestCase):
                        async def test_inner(self): ...
                ''')
                pytester.runpytest("-p", "no:harness").assert_outcomes(passed=1)
            """,
        )

    def test_equal_functions_in_two_files(self, tree: Path) -> None:
        """Code objects are equal whatever their file; one must not hide the other."""
        source = "def test_it():\n    coroutine = inner()\n    coroutine.close()\n"
        for name in ("test_a.py", "test_b.py"):
            write(tree, source, name)
        [run] = check([str(tree)], limit=60)
        assert dict(run.outcomes) == {"passed": 2}
        assert run.findings == []

    def test_failing_tests_are_no_finding(self, tree: Path) -> None:
        """``-W error`` turns the vacuous pass of a TestCase into a failure (T04)."""
        path = write(
            tree,
            "class Case(unittest.TestCase):\n    async def test_it(self): assert False\n",
        )
        [run] = check([str(path)], options=["-W", "error"], limit=60)
        assert run.findings == []
        assert "passed" not in run.outcomes


class TestCommand:
    def test_finds(self, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = write(tree, "def test_it(): inner()\n")
        assert cli.main(["check", str(path)]) == 1
        out, err = capsys.readouterr()
        assert f"{path}:12: coroutine-not-awaited: test_it.py::test_it" in out
        assert "fix:  await it" in out
        assert "1 vacuous of 1 test (1 coroutine-not-awaited)" in out
        assert f"pytest {pytest.__version__}" in out
        assert err == ""

    def test_finds_nothing(self, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = write(tree, "def test_it(): assert str(1)\n")
        assert cli.main(["check", str(path)]) == 0
        assert capsys.readouterr().out.startswith("0 vacuous of 1 test\n1 passed; Python ")

    def test_json(self, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = write(tree, "def test_a(): inner()\ndef test_b(): inner()\n")
        assert cli.main(["check", str(path), "--json", "--", "-k", "test_a"]) == 1
        result = json.loads(capsys.readouterr().out)
        [finding] = result["findings"]
        assert finding["test"] == "test_it.py::test_a"
        assert finding["kind"] == "coroutine-not-awaited"
        assert finding["fix"]
        assert result["runs"][0]["outcomes"] == {"passed": 1}

    def test_cannot_collect(self, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = write(tree, "import no_such_module_at_all\n")
        assert cli.main(["check", str(path)]) == 2
        assert "not checked: test_it.py" in capsys.readouterr().out

    def test_no_such_path(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["check", "no/such/tree"]) == 2
        assert "No such file or directory: 'no/such/tree'" in capsys.readouterr().err

    def test_no_such_interpreter(self, tree: Path) -> None:
        with pytest.raises(HarnessError, match=r"No interpreter .python0\.1"):
            check([str(tree)], python="python0.1")

    def test_interpreter_without_pytest(self, tree: Path, tmp_path: Path) -> None:
        bare = tmp_path / "bare-python"
        bare.write_text(f'#!/bin/sh\nexec "{os.path.realpath(sys.executable)}" -I -S "$@"\n')
        bare.chmod(0o755)
        with pytest.raises(HarnessError, match="it has no pytest"):
            check([str(tree)], python=str(bare))

    def test_interpreter_that_does_not_start(self, tree: Path, tmp_path: Path) -> None:
        broken = tmp_path / "broken-python"
        broken.write_text("not a program\n")
        broken.chmod(0o755)
        with pytest.raises(HarnessError, match="does not start"):
            check([str(tree)], python=str(broken))

    def test_option_that_pytest_refuses(self, tree: Path) -> None:
        with pytest.raises(HarnessError, match="--no-such-option"):
            check([str(tree)], options=["--no-such-option"])
