"""The resident sees what a child does: told by evidence, not by waiting, and never by mistake."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.matrix.interpreters import Interpreter, discover, this_interpreter
from harness.matrix.resident import child
from harness.matrix.resident.child import has_room
from harness.matrix.runner import Ran, Run, Runner
from harness.outcome import Outcome

#: Far above what any of these scripts takes; one that waits for it has failed.
LIMIT = 60.0
OLDEST = discover().interpreters[0]
PLACES = list(dict.fromkeys([OLDEST, this_interpreter()]))
AMBLE = """
import asyncio, os, signal, socket, subprocess, sys, threading, time

def new_loop():
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop
"""
HEALTHY = """
sys.stdout.flush()
print("healthy", file=sys.stderr, flush=True)
os._exit(0)
"""
RunScript = Callable[..., Ran]


@pytest.fixture(params=PLACES, ids=lambda one: one.version)
def interpreter(request: pytest.FixtureRequest) -> Interpreter:
    found: Interpreter = request.param
    return found


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner(2) as found:
        yield found


@pytest.fixture
def run_script(runner: Runner, interpreter: Interpreter) -> RunScript:
    def run(body: str, limit: float = LIMIT) -> Ran:
        script = AMBLE + textwrap.dedent(body) + HEALTHY
        ran: list[Ran] = []
        runner.run(
            [Run("script", script, interpreter, limit=limit)], lambda _, one: ran.append(one)
        )
        return ran[0]

    return run


DEADLOCKS = {
    "a future that nobody sets": """
        loop = new_loop()
        loop.run_until_complete(loop.create_future())
        """,
    "a lock taken twice": """
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
        """,
    "a wait for a coroutine of the blocked loop itself": """
        loop = new_loop()
        async def answer():
            return 42
        async def ask():
            return asyncio.run_coroutine_threadsafe(answer(), loop).result()
        loop.run_until_complete(ask())
        """,
    "two threads with two locks": """
        one, two = threading.Lock(), threading.Lock()
        both = threading.Barrier(2)
        def other():
            with two:
                both.wait()
                with one:
                    pass
        threading.Thread(target=other, daemon=True).start()
        with one:
            both.wait()
            with two:
                pass
        """,
    "an idle executor beside a future that nobody sets": """
        loop = new_loop()
        loop.run_until_complete(loop.run_in_executor(None, int))
        loop.run_until_complete(loop.create_future())
        """,
    "a timer that is due after the end of the run": """
        loop = new_loop()
        loop.call_later(7200, print)
        loop.run_until_complete(loop.create_future())
        """,
    "a watchdog that would speak at the end of the run": """
        signal.signal(signal.SIGALRM, lambda *_: os._exit(1))
        signal.alarm(60)
        loop = new_loop()
        loop.run_until_complete(loop.create_future())
        """,
    "a thread whose time-out is after the end of the run": """
        threading.Timer(7200, os._exit, [1]).start()
        loop = new_loop()
        loop.run_until_complete(loop.create_future())
        """,
    "a loop woken from a thread without its pipe": """
        loop = new_loop()
        future = loop.create_future()
        threading.Timer(0.1, future.set_result, [1]).start()
        loop.run_until_complete(future)
        """,
}


@pytest.mark.parametrize("body", DEADLOCKS.values(), ids=DEADLOCKS)
def test_process_that_can_no_longer_change_is_a_deadlock(run_script: RunScript, body: str) -> None:
    """Nothing ready, no timer, no way to be woken: it is told before the clock."""
    seen = run_script(body).observation
    assert seen.outcome is Outcome.HANG
    assert seen.message.startswith("deadlock")
    assert "script.py" in seen.message
    assert "most recent call" in seen.detail


def test_deadlock_is_shown_down_to_the_innermost_coroutine(run_script: RunScript) -> None:
    """A task's own get_stack() has the outermost only."""
    body = """
        async def inner():
            await asyncio.get_event_loop().create_future()
        async def outer():
            await inner()
        new_loop().run_until_complete(outer())
        """
    seen = run_script(body).observation
    assert re.search(r"waits at script\.py:\d+ in inner", seen.message)
    assert re.findall(", in (outer|inner)\n", seen.detail) == ["outer", "inner"]


WAITS = {
    "a thread of the executor": """
        loop = new_loop()
        loop.run_until_complete(loop.run_in_executor(None, time.sleep, 0.4))
        """,
    "a thread that sets a future the right way": """
        loop = new_loop()
        future = loop.create_future()
        def work():
            time.sleep(0.4)
            loop.call_soon_threadsafe(future.set_result, None)
        threading.Thread(target=work).start()
        loop.run_until_complete(future)
        """,
    "a subprocess": """
        loop = new_loop()
        async def main():
            if sys.version_info < (3, 8):
                asyncio.get_child_watcher().attach_loop(loop)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-S", "-c", "import time; time.sleep(0.4)")
            assert await process.wait() == 0
        loop.run_until_complete(main())
        """,
    "a socket that a thread writes to": """
        loop = new_loop()
        near, far = socket.socketpair()
        near.setblocking(False)
        threading.Thread(target=lambda: (time.sleep(0.4), far.send(b"x"))).start()
        loop.run_until_complete(loop.sock_recv(near, 1))
        """,
    "a socket that another process writes to": """
        loop = new_loop()
        near, far = socket.socketpair()
        near.setblocking(False)
        if os.fork() == 0:
            time.sleep(0.4)
            far.send(b"x")
            os._exit(0)
        loop.run_until_complete(loop.sock_recv(near, 1))
        """,
    "a timer of the loop": """
        loop = new_loop()
        loop.run_until_complete(asyncio.sleep(0.4))
        """,
    "an interval timer of the process": """
        loop = new_loop()
        future = loop.create_future()
        loop.add_signal_handler(signal.SIGALRM, future.set_result, None)
        signal.setitimer(signal.ITIMER_REAL, 0.4)
        loop.run_until_complete(future)
        """,
    "a signal of another process": """
        loop = new_loop()
        future = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, future.set_result, None)
        me = os.getpid()
        if os.fork() == 0:
            time.sleep(0.4)
            os.kill(me, signal.SIGUSR1)
            os._exit(0)
        loop.run_until_complete(future)
        """,
    "a lock that a sleeping thread holds": """
        lock = threading.Lock()
        lock.acquire()
        threading.Timer(0.4, lock.release).start()
        lock.acquire()
        """,
    "a thread that a blocked loop does not know of": """
        loop = new_loop()
        done = threading.Event()
        threading.Timer(0.4, done.set).start()
        loop.call_soon(done.wait)
        loop.run_until_complete(asyncio.sleep(0))
        """,
    "the child of a child that was orphaned": """
        loop = new_loop()
        near, far = socket.socketpair()
        near.setblocking(False)
        if os.fork() == 0:
            if os.fork() == 0:
                time.sleep(0.4)
                far.send(b"x")
            os._exit(0)
        os.wait()
        loop.run_until_complete(loop.sock_recv(near, 1))
        """,
    "its own sleep": "time.sleep(0.4)",
    "its own computation": """
        end = time.process_time() + 0.9
        while time.process_time() < end:
            pass
        """,
    "a loop that polls a thread": """
        loop = new_loop()
        done = threading.Event()
        threading.Timer(0.9, done.set).start()
        async def poll():
            while not done.is_set():
                await asyncio.sleep(0)
        loop.run_until_complete(poll())
        """,
    "a loop that polls a timer": """
        loop = new_loop()
        async def poll():
            timer = asyncio.ensure_future(asyncio.sleep(0.9))
            while not timer.done():
                await asyncio.sleep(0)
        loop.run_until_complete(poll())
        """,
}


@pytest.mark.parametrize("body", WAITS.values(), ids=WAITS)
def test_process_that_waits_for_something_real_is_no_hang(run_script: RunScript, body: str) -> None:
    """Threads, processes, sockets, signals and timers can each still end the wait."""
    ran = run_script(body)
    assert ran.observation.outcome is Outcome.HEALTHY, ran.observation


SPINS = {
    "without a select": "while True: pass",
    "with a select that can see nothing": """
        loop = new_loop()
        async def turn():
            while True:
                await asyncio.sleep(0)
        loop.run_until_complete(turn())
        """,
}


@pytest.mark.parametrize("body", SPINS.values(), ids=SPINS)
def test_spin_is_told_by_cpu_time(run_script: RunScript, body: str) -> None:
    """A quarter of the limit in CPU time, and nothing that could end it."""
    seen = run_script(body, limit=4.0).observation
    assert seen.outcome is Outcome.HANG
    assert seen.message.startswith("spin")
    assert "script.py" in seen.message


BUSY = """
def compute(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
"""
FINITE = {
    "with a moment now and then in which nothing else is to come": """
        loop = new_loop()
        async def turn():
            for _ in range(20):
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                compute(0.1)
                await asyncio.sleep(0.0001)
        loop.run_until_complete(turn())
        """,
    "before it begins to turn": """
        compute(0.8)
        loop = new_loop()
        async def turn():
            await asyncio.sleep(0.0001)
            compute(0.7)
        loop.run_until_complete(turn())
        """,
}


@pytest.mark.parametrize("body", FINITE.values(), ids=FINITE)
def test_what_computes_and_ends_is_no_spin(run_script: RunScript, body: str) -> None:
    """Only what a circle itself takes counts: here more than the limit allows is used in all."""
    ran = run_script(BUSY + textwrap.dedent(body), limit=4.0)
    assert ran.observation.outcome is Outcome.HEALTHY, ran.observation
    assert ran.cpu > 1.0


def test_spin_that_ends_by_itself_after_all_is_judged_by_its_end(run_script: RunScript) -> None:
    body = """
    def end(*_):
        print("healthy", file=sys.stderr, flush=True)
        os._exit(0)

    signal.signal(signal.SIGRTMAX - 3, end)
    while True: pass
    """
    assert run_script(body, limit=2.0).observation.outcome is Outcome.HEALTHY


def test_clock_ends_what_cannot_be_told_otherwise(run_script: RunScript) -> None:
    seen = run_script("time.sleep(3600)", limit=0.2).observation
    assert seen.outcome is Outcome.HANG
    assert seen.message.startswith("no end within 0.2 s")


def test_child_that_ignores_sigterm_and_stacks_is_ended(run_script: RunScript) -> None:
    body = """
    for number in range(1, signal.NSIG):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    time.sleep(3600)
    """
    assert run_script(body, limit=0.2).observation.outcome is Outcome.HANG


def test_signal_is_a_crash(run_script: RunScript) -> None:
    seen = run_script("os.kill(os.getpid(), signal.SIGSEGV)").observation
    assert (seen.outcome, seen.message) == (Outcome.CRASH, "killed by SIGSEGV")
    assert "script.py" in seen.detail


def test_gigabyte_of_output_is_ended_and_cut(run_script: RunScript) -> None:
    """What is kept is bounded, and the run is no evidence of anything."""
    seen = run_script("while True: print('x' * 100000)").observation
    assert seen.outcome is Outcome.BROKEN
    assert "16 MiB" in seen.message
    assert len(seen.output) < 40_000


def test_very_long_message_is_still_a_bug(run_script: RunScript) -> None:
    """What the script found stands at the start of its last line, of which the end is kept."""
    body = """
    sys.stderr.write("trace\\n" + "bug: AssertionError: long " + "x" * 100_000 + "\\n")
    os._exit(1)
    """
    seen = run_script(body).observation
    assert seen.outcome is Outcome.BUG
    assert seen.message.startswith("AssertionError: long xxx")
    assert len(seen.message) < 20_000


def test_deleted_working_directory_harms_nobody(run_script: RunScript) -> None:
    body = "import shutil; shutil.rmtree(os.getcwd())"
    assert run_script(body).observation.outcome is Outcome.HEALTHY
    assert run_script("os.getcwd()").observation.outcome is Outcome.HEALTHY


@pytest.mark.parametrize(
    "spoil",
    [
        "open('left', 'w').close()",
        "os.chmod('.', 0)",
        "os.rmdir(os.getcwd())",
        "os.chmod('..', 0)",
        "os.chmod(os.path.dirname(os.path.dirname(os.getcwd())), 0)",
    ],
)
def test_what_a_child_does_to_its_directory_is_not_seen_by_the_next(
    run_script: RunScript, spoil: str
) -> None:
    run_script(spoil)
    body = "assert os.listdir() == [], os.listdir()\nopen('mine', 'w').close()\nos.unlink('mine')"
    for _ in range(2):
        assert run_script(body).observation.outcome is Outcome.HEALTHY


def test_directories_deeper_than_paths_are_long_are_removed(run_script: RunScript) -> None:
    body = """
    for _ in range(3000):
        os.mkdir("below")
        os.chdir("below")
    """
    assert run_script(body).observation.outcome is Outcome.HEALTHY
    assert run_script("assert os.listdir() == []").observation.outcome is Outcome.HEALTHY


def test_directory_that_a_child_made_a_link_is_not_followed(
    run_script: RunScript, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o755)
    target.chmod(0o755)
    run_script(f"here = os.getcwd(); os.rmdir(here); os.symlink({str(target)!r}, here)")
    assert target.stat().st_mode & 0o777 == 0o755
    assert run_script("assert os.listdir() == []").observation.outcome is Outcome.HEALTHY


def test_each_child_starts_pristine(run_script: RunScript) -> None:
    """Neither modules, nor a policy, nor files or variables of the one before are there."""
    dirty = """
    import wave
    asyncio.set_event_loop(asyncio.new_event_loop())
    asyncio.Task = None
    os.environ["SOILED"] = "1"
    open("file", "w").close()
    """
    clean = """
    assert "wave" not in sys.modules and asyncio.Task is not None
    assert asyncio.events._event_loop_policy is None
    assert "SOILED" not in os.environ and os.listdir(".") == []
    """
    assert run_script(dirty).observation.outcome is Outcome.HEALTHY
    assert run_script(clean).observation.outcome is Outcome.HEALTHY


def test_child_looks_like_a_script_that_was_started(run_script: RunScript) -> None:
    body = """
    import inspect
    assert __name__ == "__main__" and sys.modules["__main__"].__file__ == __file__ == sys.argv[0]
    assert sys.path[0] == os.path.dirname(__file__)
    assert not any("site-packages" in entry for entry in sys.path)
    assert "new_loop" in inspect.getsource(new_loop)
    assert os.getpid() == os.getsid(0) and threading.active_count() == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert sys.stdin.read() == ""
    """
    seen = run_script(body).observation
    assert seen.outcome is Outcome.HEALTHY, seen


def test_nothing_is_compiled_into_the_cache_on_a_full_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A compiled file that was cut short would be a bug of that release for ever."""
    assert has_room(str(tmp_path))
    monkeypatch.setattr(child, "LEAST_ROOM", 1 << 62)
    assert not has_room(str(tmp_path))


def test_script_that_python_cannot_parse_is_broken_not_a_bug(run_script: RunScript) -> None:
    seen = run_script("def (:").observation
    assert seen.outcome is Outcome.BROKEN
    assert "cannot read it" in seen.message


def test_uncaught_interrupt_ends_by_its_signal(run_script: RunScript) -> None:
    seen = run_script("raise KeyboardInterrupt").observation
    assert (seen.outcome, seen.message) == (Outcome.CRASH, "killed by SIGINT")
