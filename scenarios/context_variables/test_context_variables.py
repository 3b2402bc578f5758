"""Where a context variable's value goes, and where it does not."""

import asyncio
import contextvars
import threading

from harness.scenario import scenario

who = contextvars.ContextVar("who", default="nobody")


@scenario(
    id="L13",
    title="run_in_executor() does not carry context variables into the worker thread",
    source="https://github.com/python/cpython/issues/78195",
    present=("python_version >= '3.7'",),
    python=">=3.7",
)
async def test_executor_sees_the_callers_context() -> None:
    """Symptom: request ids, loggers or the current process are back to their defaults in a job.

    Cause: run_in_executor() submits the bare function; every thread has a context of its own.
    Fix: asyncio.to_thread() (3.9+), or submit contextvars.copy_context().run.
    """
    who.set("caller")
    assert await asyncio.get_event_loop().run_in_executor(None, who.get) == "caller"


def _plant_empty_context() -> None:
    """Make copy_context() return an empty context."""
    contextvars.copy_context = contextvars.Context  # type: ignore[assignment]


@scenario(
    id="L13w",
    title="run_in_executor(copy_context().run) carries context variables along",
    source="https://docs.python.org/3/library/contextvars.html#contextvars.copy_context",
    planted=_plant_empty_context,
    python=">=3.7",
)
async def test_executor_sees_a_context_that_is_given_along() -> None:
    """Symptom: none; this is the way that works, where run_in_executor(None, f) loses them.

    Cause: the copy is made in the caller's thread and entered in the worker's.
    """
    who.set("caller")
    context = contextvars.copy_context()
    seen = await asyncio.get_event_loop().run_in_executor(None, context.run, who.get)
    assert seen == "caller"


@scenario(
    id="L14",
    title="Context variables are lost in a coroutine that runs in a new loop of a new thread",
    source="https://github.com/crewAIInc/crewAI/pull/7090",
    present=("python_version >= '3.7'",),
    python=">=3.7",
)
async def test_loop_in_a_thread_sees_the_callers_context() -> None:
    """Symptom: the usual way around "loop is already running" loses every context variable.

    Cause: a new thread starts with an empty context.
    Fix: start the thread with contextvars.copy_context().run.
    """
    seen = []

    async def read() -> None:
        seen.append(who.get())

    who.set("caller")
    thread = threading.Thread(target=asyncio.new_event_loop().run_until_complete, args=(read(),))
    thread.start()
    thread.join()
    assert seen == ["caller"]


@scenario(
    id="L14w",
    title="A thread that is started with copy_context().run keeps the caller's context",
    source="https://docs.python.org/3/library/contextvars.html#contextvars.Context.run",
    planted=_plant_empty_context,
    python=">=3.7",
)
async def test_loop_in_a_thread_sees_a_context_that_is_given_along() -> None:
    """Symptom: none; this is the way that works, where Thread(target=f) starts with none.

    Cause: the loop's tasks copy the context that the thread was started in.
    """
    seen = []

    async def read() -> None:
        seen.append(who.get())

    who.set("caller")
    run = asyncio.new_event_loop().run_until_complete
    thread = threading.Thread(target=contextvars.copy_context().run, args=(run, read()))
    thread.start()
    thread.join()
    assert seen == ["caller"]


@scenario(
    id="L33",
    title="A token of an async generator cannot be reset by the task that finalises it",
    source="https://github.com/pytest-dev/pytest-asyncio/issues/127",
    present=("python_version >= '3.7'",),
    python=">=3.7",
)
async def test_async_generator_resets_its_variable_in_another_task() -> None:
    """Symptom: "ValueError: <Token> was created in a different Context" in a fixture's teardown.

    Cause: an async generator runs in the context of whoever advances it; another task has another.
    Workaround: set and reset in one task: advance the generator from a single task.
    """

    async def fixture():  # type: ignore[no-untyped-def]
        token = who.set("fixture")
        yield
        who.reset(token)

    generator = fixture()
    await generator.__anext__()
    try:
        await asyncio.ensure_future(generator.__anext__())
    except StopAsyncIteration:
        pass


@scenario(
    id="X01",
    title="A variable set inside a task is not seen by the task that awaits it",
    source="https://peps.python.org/pep-0567/",
    present=("python_version >= '3.7'",),
    python=">=3.7",
)
async def test_variable_set_in_a_task_is_seen_by_its_awaiter() -> None:
    """Symptom: set inside, read outside: the old value; a plain "await coroutine()" shows the new.

    Cause: a task copies the context when it is made and keeps its changes to itself.
    Fix: await the coroutine without a task, or return the value.
    """

    async def sets() -> None:
        who.set("task")

    await asyncio.ensure_future(sets())
    assert who.get() == "task"


def _plant_coroutines_as_tasks() -> None:
    """Make inline() wrap its coroutine into a task."""
    globals()["inline"] = asyncio.ensure_future


@scenario(
    id="X02",
    title="A variable set by a coroutine that is awaited without a task is seen outside",
    source="https://peps.python.org/pep-0567/",
    planted=_plant_coroutines_as_tasks,
    python=">=3.7",
)
async def test_variable_set_in_an_awaited_coroutine_is_seen_outside() -> None:
    """Symptom: none; this is the way that works, where a task would keep its change to itself.

    Cause: a coroutine awaited directly runs in the context of its caller.
    """

    async def sets() -> None:
        who.set("coroutine")

    await inline(sets())
    assert who.get() == "coroutine"


async def inline(coroutine):  # type: ignore[no-untyped-def]
    await coroutine


@scenario(
    id="X03",
    title="call_soon() runs its callback in the context of the moment it was scheduled",
    source="https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.loop.call_soon",
    planted=_plant_empty_context,
    python=">=3.7",
)
async def test_callback_sees_the_context_of_its_scheduling() -> None:
    """Symptom: none in asyncio: a guard; a loop that keeps no context shows the default here.

    Cause: Handle keeps copy_context() and runs the callback in it.
    """
    loop = asyncio.get_event_loop()
    seen = loop.create_future()
    who.set("scheduled")
    loop.call_soon(lambda: seen.set_result(who.get()), context=contextvars.copy_context())
    who.set("later")
    assert await seen == "scheduled"


@scenario(
    id="X04",
    title="call_soon_threadsafe() runs its callback in the context of the calling thread",
    source="https://docs.python.org/3/library/contextvars.html#asyncio-support",
    present=("python_version >= '3.7'",),
    python=">=3.7",
)
async def test_threadsafe_callback_sees_the_context_of_the_loops_task() -> None:
    """Symptom: a callback from a communicator's thread does not see what the process had set.

    Cause: the context is copied in the calling thread, whose context is another one.
    Workaround: pass context=, copied where the values are, to call_soon_threadsafe().
    """
    loop = asyncio.get_event_loop()
    seen = loop.create_future()
    who.set("process")

    def communicator() -> None:
        loop.call_soon_threadsafe(lambda: seen.set_result(who.get()))

    threading.Thread(target=communicator).start()
    assert await seen == "process"


@scenario(
    id="X05",
    title="A token cannot be reset by a callback, which runs in a copy of the context",
    source="https://docs.python.org/3/library/contextvars.html#contextvars.ContextVar.reset",
    present=("python_version >= '3.7'",),
    python=">=3.7",
)
async def test_token_can_be_reset_in_a_callback() -> None:
    """Symptom: "ValueError: <Token> was created in a different Context".

    Cause: call_soon() runs its callback in a copy; a token belongs to the context it was made in.
    Fix: reset in the same task, or pass the very context with call_soon(..., context=).
    """
    loop = asyncio.get_event_loop()
    errors = loop.create_future()
    token = who.set("task")
    loop.set_exception_handler(lambda _, context: errors.set_result(context["exception"]))
    loop.call_soon(who.reset, token)
    loop.call_soon(loop.call_soon, lambda: errors.done() or errors.set_result(None))
    error = await errors
    assert error is None, error


def _plant_callbacks_without_a_context() -> None:
    """Make call_soon() take a context and not use it."""
    call_soon = asyncio.BaseEventLoop.call_soon

    def forgetful(self, callback, *args, context=None):  # type: ignore[no-untyped-def]
        return call_soon(self, callback, *args)

    asyncio.BaseEventLoop.call_soon = forgetful  # type: ignore[method-assign]


@scenario(
    id="X05w",
    title="A token is reset by a callback that runs in the context the token was made in",
    source="https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.loop.call_soon",
    planted=_plant_callbacks_without_a_context,
    python=">=3.7",
)
async def test_token_is_reset_in_the_context_it_was_made_in() -> None:
    """Symptom: none; this is the way that works, where a callback would run in a copy.

    Cause: call_soon(context=...) runs the callback in that very context.
    """
    loop, context = asyncio.get_event_loop(), contextvars.copy_context()
    reset = loop.create_future()
    token = context.run(who.set, "callback")
    loop.set_exception_handler(lambda _, told: reset.set_exception(told["exception"]))
    loop.call_soon(who.reset, token, context=context)
    loop.call_soon(lambda: reset.done() or reset.set_result(None))
    await reset
