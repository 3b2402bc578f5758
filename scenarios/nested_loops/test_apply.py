"""What apply() itself says and does."""

import asyncio
import concurrent.futures
import sys
import types
import unittest
import warnings
from typing import List

from harness.scenario import scenario
from scenarios._nesting import apply


@scenario(
    id="N13",
    title="apply() fails: no attribute _check_running",
    source="https://github.com/erdewit/nest_asyncio/commit/bcea561",
    present=("nest-asyncio>=1.3.1,<1.3.2; python_version < '3.8'",),
)
async def test_apply_works() -> None:
    """Symptom: "AttributeError: ... has no attribute '_check_running'" on Python 3.6 and 3.7.

    Cause: 1.3.1 patched a method that only Python 3.8 and later have.
    Fix: nest_asyncio 1.3.2.
    """
    import nest_asyncio

    nest_asyncio.apply()


@scenario(
    id="N14",
    title="apply() before the loop runs: \"Can't patch loop of type <class 'NoneType'>\"",
    source="https://github.com/erdewit/nest_asyncio/issues/62",
    present=("nest-asyncio>=1.5.2,<1.5.3",),
    shown_in=("1.5.2", "1.5.3"),
)
async def test_apply_takes_the_current_loop_when_none_runs() -> None:
    """Symptom: ValueError from the first two lines of every program.

    Cause: 1.5.2 asked for the running loop only.
    Fix: nest_asyncio 1.5.3.
    """

    def program() -> None:
        asyncio.set_event_loop(type("Loop", (asyncio.SelectorEventLoop,), {})())
        apply()

    await asyncio.get_event_loop().run_in_executor(None, program)


_said: List[str] = []


def _apply_without_a_current_loop() -> None:
    """Call apply() first thing in the main thread, as the README says, and keep what it said."""
    loop_class = asyncio.SelectorEventLoop
    unpatched = set(vars(loop_class))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            apply()
        except (RuntimeError, ValueError, unittest.SkipTest) as error:
            _said.append("%s: %s" % (type(error).__name__, error))
    for name in set(vars(loop_class)) - unpatched:
        delattr(loop_class, name)  # after 0.9.5 no other loop runs, and this test needs one
    _said.extend(str(warning.message) for warning in caught)


@scenario(
    id="N17",
    title="apply() without a current loop: DeprecationWarning, an error under pytest -W error",
    source="https://github.com/erdewit/nest_asyncio/issues/77",
    present=("nest-asyncio<1.5.7; python_version >= '3.12'",),
    prepare=_apply_without_a_current_loop,
)
async def test_apply_is_silent_when_there_is_no_current_loop() -> None:
    """Symptom: "There is no current event loop" (Python 3.12.1 to 3.13; an error from 3.14 on).

    Cause: apply() and run() called the default get_event_loop().
    Fix: nest_asyncio 1.5.7; on Python 3.14 nest-asyncio2. Workaround: make and set a loop first.
    """
    said = [text for text in _said if "There is no current event loop" in text]
    if _said and not said:
        raise unittest.SkipTest("apply() says something else here: %s" % _said[0])
    assert not said, said[0]


@scenario(
    id="N68",
    title="apply() calls the deprecated get_event_loop_policy()",
    source="https://github.com/Chaoses-Ib/nest-asyncio2/commit/e295495",
    present=(
        "nest-asyncio>=1.5.5; python_version >= '3.14'",
        "nest-asyncio2<1.6.2; python_version >= '3.14'",
    ),
    library="nest-asyncio",
)
async def test_apply_says_nothing_about_policies() -> None:
    """Symptom: "'asyncio.get_event_loop_policy' is deprecated and slated for removal in 3.16".

    Cause: a direct call of get_event_loop_policy(); Python 3.14 deprecates it.
    Fix: nest-asyncio2 1.6.2.
    """

    def program() -> None:
        asyncio.set_event_loop(type("Loop", (asyncio.SelectorEventLoop,), {})())
        apply()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            await asyncio.get_event_loop().run_in_executor(None, program)
        except ValueError as error:
            raise unittest.SkipTest("apply() fails here: %s" % error)
    said = [str(warning.message) for warning in caught if "policy" in str(warning.message)]
    assert not said, said[0]


@scenario(
    id="N28",
    title="apply() swaps asyncio.Future and asyncio.Task for other classes",
    source="https://github.com/erdewit/nest_asyncio/issues/23",
    present=(
        "nest-asyncio; python_version < '3.7'",
        "nest-asyncio>=0.9.3; python_version >= '3.7'",
        "nest-asyncio2; python_version < '3.14'",
    ),
    library="nest-asyncio",
    shown_in=("1.6.0",),
)
async def test_future_made_before_apply_is_an_asyncio_future_after_it() -> None:
    """Symptom: isinstance(future, asyncio.Future) is False for futures made before, and for every
    library that imported the class before.

    Cause: the C classes cannot be patched, so the pure-Python ones are put in their place.
    Fix: nest-asyncio2 leaves the C classes in place on Python 3.14 and later. Workaround:
    asyncio.isfuture().
    """
    future = asyncio.get_event_loop().create_future()
    apply()
    assert isinstance(future, asyncio.Future)


@scenario(
    id="N29",
    title="tornado imported before nest_asyncio does not take asyncio's futures for futures",
    source="https://github.com/tornadoweb/tornado/issues/2753",
    present=(
        "nest-asyncio<1.4.0; python_version < '3.7'",
        "nest-asyncio>=0.9.3,<1.4.0; python_version >= '3.7'",
    ),
    shown_in=("1.3.3", "1.4.0"),
)
async def test_tornado_knows_the_futures_of_the_patched_asyncio() -> None:
    """Symptom: "assert is_future(future)" fails in tornado's IOLoop.add_future().

    Cause: tornado.concurrent keeps the future classes in a tuple that it made before the swap that
    apply() makes. A stand-in with just that tuple takes tornado's place here.
    Fix: nest_asyncio 1.4.0 puts the new class into tornado's tuple.
    """
    concurrent_module = types.ModuleType("tornado.concurrent")
    concurrent_module.Future = asyncio.Future  # type: ignore[attr-defined]
    concurrent_module.FUTURES = (  # type: ignore[attr-defined]
        concurrent.futures.Future,
        asyncio.Future,
    )
    package = types.ModuleType("tornado")
    package.concurrent = concurrent_module  # type: ignore[attr-defined]
    sys.modules.update({"tornado": package, "tornado.concurrent": concurrent_module})
    apply()
    future = asyncio.Future()
    assert isinstance(future, concurrent_module.FUTURES)  # type: ignore[attr-defined]


@scenario(
    id="N52",
    title="apply() breaks a policy that does not derive from the default one: no '_local'",
    source="https://github.com/erdewit/nest_asyncio/blob/master/nest_asyncio.py",
    present=(
        "nest-asyncio>=1.5.7",
        "nest-asyncio2; python_version < '3.14'",
        "nest-asyncio2<1.6.2; python_version >= '3.14'",
    ),
    library="nest-asyncio",
    shown_in=("1.5.6", "1.6.0"),
)
async def test_policy_of_ones_own_still_works_after_apply() -> None:
    """Symptom: "AttributeError: 'MyPolicy' object has no attribute '_local'" in get_event_loop().

    Cause: since 1.5.7 apply() replaces get_event_loop() in the class of whatever policy is set, by
    a method that uses a private attribute of the default one.
    Fix: nest-asyncio2 does not patch the policy on Python 3.14 and later.
    """
    running = asyncio.get_event_loop()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")

        class MyPolicy(asyncio.AbstractEventLoopPolicy):
            def get_event_loop(self) -> asyncio.AbstractEventLoop:
                return running

        asyncio.set_event_loop_policy(MyPolicy())
        apply(running)
        current = await running.run_in_executor(None, asyncio.get_event_loop)
        assert current is running


@scenario(
    id="N76",
    title="An apply() that refuses the loop has patched asyncio all the same",
    source="https://github.com/erdewit/nest_asyncio/blob/master/nest_asyncio.py",
    present=("nest-asyncio<1.0.0", "nest-asyncio>=1.5.5", "nest-asyncio2"),
    library="nest-asyncio",
    shown_in=("1.5.4", "1.6.0"),
)
async def test_refused_apply_leaves_asyncio_as_it_was() -> None:
    """Symptom: "Can't patch loop of type <class 'uvloop.Loop'>" is caught, and yet asyncio.Task,
    asyncio.run and the policy are other ones afterwards.

    Cause: since 1.5.5 asyncio is patched before the loop is looked at.
    Workaround: look at the loop's type before you call apply().
    """

    class NoSelectorLoop(asyncio.AbstractEventLoop):
        pass

    before = asyncio.Task, asyncio.Future, getattr(asyncio, "run", None)
    try:
        apply(NoSelectorLoop())
    except Exception:
        pass
    assert (asyncio.Task, asyncio.Future, getattr(asyncio, "run", None)) == before
