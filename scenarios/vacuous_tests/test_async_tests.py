"""Async tests that pass although their body never ran, or although something failed."""

import asyncio
import importlib.util
import os
import subprocess
import sys
import tempfile
import unittest
import warnings

from harness.scenario import scenario

PLUGIN = ["-p", "pytest_asyncio.plugin"]


def pytest_run(source, *options):
    """Run pytest on a file with this source, in a folder of its own, without any plugin."""
    own = ["-p", "no:cacheprovider", "-p", "no:harness", "-o", "markers=asyncio: as it says"]
    env = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "test_it.py"), "w") as file:
            file.write(source)
        command = [sys.executable, "-m", "pytest", "-q", "test_it.py"] + own + list(options)
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        ended = subprocess.run(command, env=env, cwd=folder, check=False, **streams)
    said = ended.stdout.decode()
    if ended.returncode != (" failed" in said[-80:]) or " error" in said[-80:]:
        raise unittest.SkipTest("pytest could not run: " + said)
    return ended.returncode, said


@scenario(
    id="T01",
    title="@pytest.mark.asyncio under unittest.TestCase: a failing test passes",
    source="https://github.com/pytest-dev/pytest-asyncio/issues/180",
    present=("pytest>=3.0",),
    limit=60,  # a pytest of its own has to start, on a busy machine too
)
async def test_marked_async_test_in_a_testcase_fails() -> None:
    """Symptom: "the test wrapped inside will always pass".

    Cause: pytest hands methods of a TestCase to unittest, which calls them and ignores the
    coroutine; pytest-asyncio never sees them. Only pytest 5.4.0 and 5.4.1 handed them to a plugin;
    without one they skip the test, and the run is green too.
    Fix: unittest.IsolatedAsyncioTestCase, or no TestCase; -W error shows it.
    """
    source = """
import unittest
import pytest

class TestIt(unittest.TestCase):
    @pytest.mark.asyncio
    async def test_fails(self):
        assert False
"""
    plugin = PLUGIN if importlib.util.find_spec("pytest_asyncio") else []
    status, said = pytest_run(source, *plugin)
    assert status == 1, said


@scenario(
    id="T01p",
    title="No pytest-asyncio runs the marked async tests of a unittest.TestCase",
    source="https://github.com/pytest-dev/pytest-asyncio/issues/77",
    present=("pytest-asyncio>=0.10.0",),
    limit=60,  # a pytest of its own has to start, on a busy machine too
)
async def test_plugin_runs_marked_async_tests_of_a_testcase() -> None:
    """Symptom: a failing test of a TestCase passes, whichever pytest-asyncio is installed.

    Cause: the plugin runs the coroutine functions that pytest calls; methods of a TestCase are
    called by unittest.
    Fix: unittest.IsolatedAsyncioTestCase, or no TestCase.
    """
    source = """
import unittest
import pytest

class TestIt(unittest.TestCase):
    @pytest.mark.asyncio
    async def test_fails(self):
        assert False
"""
    status, said = pytest_run(source, *PLUGIN)
    assert status == 1, said


STRICT = ["-W", "error"]


@scenario(
    id="T04",
    title="'pytest -W error' does not make a failure of an async test that never ran",
    source="https://docs.pytest.org/en/stable/how-to/failures.html#unraisable",
    present=(
        "pytest>=3.1,<5.4.0",
        "pytest>=5.4.2,<6.2.0",
        "pytest>=5.4.2,<=7.4.4; python_version < '3.8'",
    ),
    limit=60,  # a pytest of its own has to start, on a busy machine too
    planted=STRICT.clear,
)
async def test_warnings_as_errors_show_a_coroutine_that_never_ran() -> None:
    """Symptom: even strict settings let a failing async test of a TestCase pass.

    Cause: "coroutine was never awaited" is raised where nobody can catch it; it takes
    sys.unraisablehook (Python 3.8) and a pytest that uses it (6.2) to make it a failure.
    Fix: pytest 6.2 with Python 3.8, and filterwarnings = error.
    """
    source = """
import unittest
import pytest

class TestIt(unittest.TestCase):
    @pytest.mark.asyncio
    async def test_fails(self):
        assert False
"""
    status, said = pytest_run(source, *STRICT)
    assert status == 1, said


@scenario(
    id="T02",
    title="An async test without a marker is skipped with a warning, and the run is green",
    source="https://github.com/pytest-dev/pytest/issues/4814",
    present=("pytest>=3.0,<8.4",),
    limit=60,  # a pytest of its own has to start, on a busy machine too
    shown_in=("8.3.5",),
)
async def test_async_test_that_nothing_runs_fails() -> None:
    """Symptom: a forgotten marker, and the test is never run.

    Cause: pytest cannot run a coroutine function itself, and skipped it.
    Fix: pytest 8.4 fails it. Before: asyncio_mode = auto, or -W error.
    """
    status, said = pytest_run("async def test_fails():\n    assert False\n")
    assert status == 1, said


def _plant_no_plugin() -> None:
    """Leave pytest-asyncio out."""
    PLUGIN.clear()


@scenario(
    id="T05",
    title="@pytest.mark.asyncio on a plain async function runs its body",
    source="https://github.com/pytest-dev/pytest-asyncio",
    library="pytest-asyncio",
    planted=_plant_no_plugin,
    limit=60,  # a pytest of its own has to start, on a busy machine too
)
async def test_marked_async_test_fails_by_its_own_assertion() -> None:
    """Symptom: none; this is the way that works, where a TestCase would hide the failure.

    Cause: pytest-asyncio runs coroutine functions that pytest itself collects.
    """
    source = """
import pytest

@pytest.mark.asyncio
async def test_fails():
    assert False
"""
    status, said = pytest_run(source, *PLUGIN)
    assert "assert False" in said, said
    assert status == 1


def run_testcase(case: type) -> unittest.TestResult:
    """Run one TestCase where no loop runs; its warnings are part of the symptom, not of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return unittest.defaultTestLoader.loadTestsFromTestCase(case).run(unittest.TestResult())


@scenario(
    id="L12",
    title="An async test method of unittest.TestCase passes without running",
    source="https://docs.python.org/3/library/unittest.html#unittest.IsolatedAsyncioTestCase",
    present=("python_version >= '3.6'",),
)
async def test_async_method_of_a_testcase_runs() -> None:
    """Symptom: a failing assertion in an async test method, and the test passes.

    Cause: unittest calls the method and ignores the coroutine that it returns; Python 3.11 and
    later at least emit a DeprecationWarning.
    Fix: unittest.IsolatedAsyncioTestCase (3.8+).
    """

    class Case(unittest.TestCase):
        async def test_fails(self) -> None:
            self.fail("on purpose")

    result = await asyncio.get_event_loop().run_in_executor(None, run_testcase, Case)
    assert not result.wasSuccessful()


@scenario(
    id="L12d",
    title="A TestCase says nothing about an async test method that it did not run",
    source="https://docs.python.org/3/whatsnew/3.11.html#unittest",
    present=("python_version < '3.11'",),
)
async def test_testcase_warns_of_a_test_method_that_returns_a_coroutine() -> None:
    """Symptom: a test that never ran, and no word about it from unittest.

    Cause: up to Python 3.10 unittest drops what a test method returns.
    Fix: from 3.11 on "it is deprecated to return a value that is not None from a test case"; with
    -W error that fails the test.
    """

    class Case(unittest.TestCase):
        async def test_fails(self) -> None:
            self.fail("on purpose")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Case("test_fails").run()
    assert [one for one in caught if one.category is DeprecationWarning]


def _plant_plain_testcase() -> None:
    """Put the class that ignores coroutines in place of the one that runs them."""
    unittest.IsolatedAsyncioTestCase = unittest.TestCase  # type: ignore[misc, assignment]


@scenario(
    id="L12w",
    title="An async test method of unittest.IsolatedAsyncioTestCase runs",
    source="https://docs.python.org/3/library/unittest.html#unittest.IsolatedAsyncioTestCase",
    python=">=3.8",
    planted=_plant_plain_testcase,
)
async def test_async_method_of_an_isolated_testcase_runs() -> None:
    """Symptom: none; this is the way that works, where unittest.TestCase ignores the coroutine.

    Cause: this class runs the coroutine in a loop of its own.
    """

    class Case(unittest.IsolatedAsyncioTestCase):
        async def test_fails(self) -> None:
            self.fail("on purpose")

    result = await asyncio.get_event_loop().run_in_executor(None, run_testcase, Case)
    assert len(result.failures) == 1, result


@scenario(
    id="V01",
    title="'assert check()' of an async check is always true",
    source="https://docs.python.org/3/library/asyncio-dev.html#detect-never-awaited-coroutines",
    present=("python_version >= '3.6'",),
)
async def test_assertion_on_an_async_check_can_fail() -> None:
    """Symptom: an assertion that cannot fail; "coroutine ... was never awaited" at best.

    Cause: a coroutine object is true, whatever it would have returned.
    Fix: await it; run with -W error.
    """

    async def is_ready() -> bool:
        return False

    check = is_ready()
    try:
        assert check
    except AssertionError:
        return
    finally:
        check.close()
    raise AssertionError("the assertion passed, and is_ready() returns False")


@scenario(
    id="V02",
    title="A background task that fails does not fail the test that started it",
    source="https://docs.python.org/3/library/asyncio-dev.html#detect-never-retrieved-exceptions",
    present=("python_version >= '3.7'",),
    python=">=3.7",
)
async def test_failure_of_a_background_task_fails_the_test() -> None:
    """Symptom: "Task exception was never retrieved" in the output of a green run.

    Cause: an exception stays in its task until somebody asks for it.
    Fix: await the tasks you start; asyncio.TaskGroup (3.11+).
    """

    async def fails() -> None:
        raise AssertionError("on purpose")

    async def the_test() -> None:
        asyncio.ensure_future(fails())
        await asyncio.sleep(0)

    def run() -> bool:
        try:
            asyncio.run(the_test())
        except AssertionError:
            return True
        return False

    failed = await asyncio.get_event_loop().run_in_executor(None, run)
    assert failed, "the test passed"
