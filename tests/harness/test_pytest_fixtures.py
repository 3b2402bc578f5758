"""The fixtures: every test its own vhost, one broker per run, a clear word where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.broker import Broker

SETTINGS = """
[pytest]
filterwarnings = error
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
"""


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    for name in [name for name in os.environ if name.startswith(("HARNESS_", "PYTEST_XDIST"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pytester.makeini(SETTINGS)
    return pytester


def test_a_communicator_speaks_over_its_own_vhost(inner: pytest.Pytester, broker: Broker) -> None:
    inner.makepyfile(
        """
        import asyncio
        import pytest

        SEEN = set()

        @pytest.mark.parametrize("n", range(2))
        def test_rpc(communicator, amqp_url, n):
            SEEN.add(amqp_url)
            communicator.add_rpc_subscriber(lambda _, message: message + 1, "adder")
            assert communicator.rpc_send("adder", n).result(timeout=5) == n + 1

        async def test_on_the_loop(loop_communicator):
            loop = asyncio.get_running_loop()
            where = []
            async def add(_, message):
                where.append(asyncio.get_running_loop())
                return message + 1
            await asyncio.to_thread(loop_communicator.add_rpc_subscriber, add, "adder")
            future = await asyncio.to_thread(loop_communicator.rpc_send, "adder", 1)
            answer = await asyncio.to_thread(future.result, 5)
            while not isinstance(answer, int):
                answer = await asyncio.to_thread(answer.result, 5)
            assert answer == 2
            assert where == [loop]

        def test_vhosts_were_different():
            assert len(SEEN) == 2
        """
    )
    url = f"{broker.url}?management={broker.management.url}"
    before = broker.management.vhosts("")
    result = inner.runpytest_subprocess(f"--harness-broker={url}", "-q", timeout=60)
    result.assert_outcomes(passed=4)
    assert broker.management.vhosts("") == before


def test_the_workers_of_xdist_share_one_broker(inner: pytest.Pytester, broker: Broker) -> None:
    pytest.importorskip("xdist")
    inner.makepyfile(
        """
        import os
        import pathlib
        import pytest

        @pytest.mark.parametrize("n", range(4))
        def test_url(broker, n):
            pathlib.Path(f"prefix-{os.getpid()}").write_text(broker.prefix)
        """
    )
    url = f"{broker.url}?management={broker.management.url}"
    result = inner.runpytest_subprocess(
        f"--harness-broker={url}", "-q", "-n", "2", "--dist", "each", timeout=120
    )
    result.assert_outcomes(passed=8)
    prefixes = [path.read_text() for path in inner.path.glob("prefix-*")]
    assert len(prefixes) == 2
    assert len(set(prefixes)) == 1


def test_without_a_broker_the_test_is_skipped_with_the_reason(inner: pytest.Pytester) -> None:
    inner.makepyfile("def test_it(amqp_url): pass")
    result = inner.runpytest_subprocess("--harness-broker=none", "-rs", timeout=60)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*the broker is switched off (none)*"])


def test_a_required_broker_that_is_not_there_fails_the_test(inner: pytest.Pytester) -> None:
    inner.makepyfile("def test_it(amqp_url): pass")
    result = inner.runpytest_subprocess(
        "--harness-broker=none", "--harness-require-broker", timeout=60
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the broker is switched off (none)*"])


def test_a_wrong_setting_is_a_usage_error_before_any_test(inner: pytest.Pytester) -> None:
    inner.makepyfile("def test_it(): pass")
    result = inner.runpytest_subprocess("--harness-broker=podman", timeout=60)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unknown broker 'podman'; choose one of auto, docker, local*"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_a_broker_that_cannot_be_had_is_told_in_one_line_without_a_traceback(
    inner: pytest.Pytester,
) -> None:
    inner.makepyfile("def test_one(amqp_url): pass\ndef test_two(amqp_url): pass")
    result = inner.runpytest_subprocess("--harness-broker=amqp://me:secret@127.0.0.1:1/")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["no broker answers at amqp://me:***@127.0.0.1:1/ *; start it*"])
    assert "Traceback" not in result.stdout.str()
    assert "secret" not in result.stdout.str().partition("test session starts")[2]


def test_a_scenario_gets_a_communicator_on_its_own_loop(
    inner: pytest.Pytester, broker: Broker
) -> None:
    inner.mkdir("family").joinpath("test_one.py").write_text(
        "import asyncio\n"
        "from harness.scenario import scenario\n"
        "@scenario(id='X1', title='t', source='s', present=[\"python_version < '3.6'\"])\n"
        "async def test_one(loop_communicator):\n"
        "    assert loop_communicator.loop() is asyncio.get_running_loop()\n"
    )
    inner.runpytest_subprocess().assert_outcomes(passed=1)
