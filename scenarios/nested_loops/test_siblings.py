"""Several nested runs in one loop: they share one stack, one ready queue, one order."""

import asyncio
import unittest

from harness.scenario import scenario
from scenarios._nesting import apply, nesting, nesting_program


@scenario(
    id="N06",
    title="Two nested runs side by side kill the loop: 'pop from an empty deque'",
    source="https://github.com/erdewit/nest_asyncio/issues/11",
    present=(
        "nest-asyncio>=0.9.3,<0.9.7",
        "nest-asyncio>=1.1.0,<1.3.0",
    ),
    limit=3,
)
async def test_two_siblings_can_nest() -> None:
    """Symptom: "IndexError: pop from an empty deque", and the outer loop is dead.

    Cause: a round pops as many handles as it counted before it started; a sibling's nested run has
    taken some of them.
    Fix: nest_asyncio 0.9.7; it came back in 1.1.0 and went in 1.3.0.
    """

    async def sibling(loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(asyncio.sleep(0.01))

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        await asyncio.gather(sibling(loop), sibling(loop))

    await nesting_program(main)


@scenario(
    id="N07",
    title="Nested runs under a gather next to background tasks: the outer run never returns",
    source="https://github.com/erdewit/nest_asyncio/issues/17",
    present=(
        "nest-asyncio>=0.9.3,<0.9.7",
        "nest-asyncio>=1.1.0,<1.3.0",
    ),
    limit=3,
)
async def test_many_siblings_next_to_background_tasks_end() -> None:
    """Symptom: a hang, or "IndexError: pop from an empty deque".

    Cause: a round pops as many handles as it counted before it started; a sibling's nested run has
    taken some of them. 1.1.0 to 1.2.3 swallowed the IndexError in the patched run_forever(), and
    with it the callback that ends the run.
    Fix: nest_asyncio 0.9.7, and after its return 1.3.0.
    """

    async def sibling(loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(asyncio.sleep(0.001))

    async def background() -> None:
        for _ in range(20):
            await asyncio.sleep(0.001)

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        tasks = [asyncio.ensure_future(background()) for _ in range(5)]
        tasks += [asyncio.ensure_future(sibling(loop)) for _ in range(10)]
        await asyncio.gather(*tasks)

    await nesting_program(main)


@scenario(
    id="N08",
    title="A task that loops on asyncio.sleep(0) keeps the loop from everything else",
    source="https://github.com/erdewit/nest_asyncio/issues/34",
    present=("nest-asyncio>=1.3.0,<1.4.1",),
    shown_in=("1.4.0", "1.4.1"),
    limit=2,
)
async def test_timer_fires_while_a_task_loops_on_sleep_0() -> None:
    """Symptom: 100 % CPU; timers and sockets are never served.

    Cause: "while ready:" instead of a fixed count in the patched _run_once(): a task that
    reschedules itself keeps the round going, and select() is never reached.
    Fix: nest_asyncio 1.4.1.
    """

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    async def main() -> None:
        spinning = asyncio.ensure_future(spin())
        await asyncio.sleep(0.001)
        spinning.cancel()

    await nesting(main)


@scenario(
    id="N19",
    title="A nested run that waits for a task further down the stack never ends",
    source="https://github.com/erdewit/nest_asyncio/issues/66",
    present=(
        "nest-asyncio",
        "nest-asyncio2",
    ),
    library="nest-asyncio",
    shown_in=("1.6.0",),
)
async def test_nested_run_can_wait_for_a_task_that_is_in_a_nested_run() -> None:
    """Symptom: a deadlock: A waits in a nested run for X; B, started inside that run, sets X and
    then waits in a nested run for A.

    Cause: X is there, but A's nested run lies under B's on the one stack and cannot return.
    Workaround: await instead of nesting in one of them; greenlets have no such order.
    """

    async def main() -> None:
        loop = asyncio.get_event_loop()
        x = loop.create_future()

        async def a() -> None:
            loop.run_until_complete(x)

        async def b() -> None:
            x.set_result(None)
            loop.run_until_complete(asyncio.wait([first], timeout=0.2))
            assert first.done(), "A has all it waits for and cannot go on"

        first = asyncio.ensure_future(a())
        await asyncio.ensure_future(b())

    await nesting(main)


@scenario(
    id="N44",
    title="Two nested runs that wait for each other's events deadlock",
    source="https://github.com/erdewit/nest_asyncio/issues/66",
    present=(
        "nest-asyncio",
        "nest-asyncio2",
    ),
    library="nest-asyncio",
    shown_in=("1.6.0",),
)
async def test_nested_runs_can_wait_for_each_other() -> None:
    """Symptom: code that is fine with threads or greenlets hangs with nested runs.

    Cause: A is told, but its nested run lies under B's on the one stack and cannot return; so A
    never sets the event that B waits for.
    Workaround: await instead of nesting in one of them; greenlets have no such order.
    """

    async def main() -> None:
        loop = asyncio.get_event_loop()
        from_b, from_a = loop.create_future(), loop.create_future()

        async def a() -> None:
            loop.run_until_complete(from_b)
            from_a.set_result(None)

        async def b() -> None:
            from_b.set_result(None)
            loop.run_until_complete(asyncio.wait([from_a], timeout=0.2))
            assert from_a.done(), "A was told and cannot answer"

        first, second = asyncio.ensure_future(a()), asyncio.ensure_future(b())
        await asyncio.gather(first, second)

    await nesting(main)


@scenario(
    id="N43",
    title="Nested runs end in last-in-first-out order",
    source="https://github.com/erdewit/nest_asyncio/issues/36",
    present=(
        "nest-asyncio>=0.9.3",  # before 0.9.7 with two runs only: N06 hides it with three
        "nest-asyncio2",
    ),
    library="nest-asyncio",
    shown_in=("1.6.0",),
    limit=3,
)
async def test_short_nested_run_ends_before_a_long_one() -> None:
    """Symptom: a short wait takes as long as the longest wait that was entered after it.

    Cause: there is one stack; the run that was entered first lies at its bottom.
    Workaround: await; greenlets have a stack each.
    """
    ended = []

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        async def wait(name: str, seconds: float) -> None:
            loop.run_until_complete(asyncio.sleep(seconds))
            ended.append(name)

        first, second = loop.create_task(wait("short", 0)), loop.create_task(wait("long", 0.1))
        await asyncio.wait([first, second])

    await nesting_program(main)
    assert ended == ["short", "long"]


@scenario(
    id="N42",
    title="Many concurrent tasks that nest: 'maximum recursion depth exceeded'",
    source="https://github.com/aiidateam/aiida-core/issues/4876",
    present=(
        "nest-asyncio",
        "nest-asyncio2",
    ),
    library="nest-asyncio",
    shown_in=("1.6.0",),
)
async def test_many_siblings_can_nest() -> None:
    """Symptom: RecursionError with one or two hundred concurrent tasks; up to Python 3.8 the
    interpreter aborts.

    Cause: each sibling is started inside the nested run of the one before: the depth of the stack
    is the number of siblings.
    Workaround: limit the concurrency; await; greenlets (plumpy's execute()) do not stack.
    """

    async def main() -> None:
        loop = asyncio.get_event_loop()
        loop.set_exception_handler(lambda _, context: None)

        async def sibling() -> None:
            loop.run_until_complete(asyncio.sleep(0.01))

        tasks = [asyncio.ensure_future(sibling()) for _ in range(400)]
        done, pending = await asyncio.wait(tasks, timeout=1)
        assert not pending, "%d of 400 never ended" % len(pending)
        assert not [task.exception() for task in done if task.exception()]

    await nesting(main)


@scenario(
    id="N45",
    title="apply() inside a running loop, then a nested run: 'pop from an empty deque'",
    source="https://github.com/pola-rs/polars/pull/28765",
    present=(
        "nest-asyncio>=0.9.3,<0.9.6",
        "nest-asyncio>=1.1.0",
        "nest-asyncio2",
    ),
    library="nest-asyncio",
    shown_in=("1.6.0",),
)
async def test_nested_run_leaves_the_round_that_was_under_way_intact() -> None:
    """Symptom: "IndexError: pop from an empty deque" out of the outer loop, which is dead then.

    Cause: apply() cannot reach asyncio's own _run_once() frame that is already executing. It
    counted the ready handles; the nested run takes some of them away.
    Workaround: call apply() before the loop runs, or let one round pass: await asyncio.sleep(0).
    """
    loop = asyncio.get_event_loop()
    turn = loop.create_future()

    def one_round_of_three() -> None:
        turn.set_result(None)
        loop.call_soon(int)
        loop.call_soon(int)

    loop.call_soon(one_round_of_three)
    await turn
    nested = loop.create_future()
    loop.call_later(0, nested.set_result, None)
    try:
        apply(loop)
        loop.run_until_complete(nested)
    except (AttributeError, RuntimeError) as error:
        raise unittest.SkipTest("this release cannot nest here: %s" % error)
