"""Outlines and steps: in which order, with which result, and where a checkpoint is."""

import asyncio

import pytest

import plumpy
from plumpy import ToContext, if_, return_, while_
from plumpy.exceptions import PersistenceError
from plumpy.persistence import Bundle, Savable
from plumpy.ports import PortNamespace
from plumpy.process_spec import ProcessSpec
from plumpy.workchains import Stepper, WorkChainSpec, _PropagateReturn


class Chain(plumpy.WorkChain):
    """Records which of its steps were taken. Each test gives it an outline of its own."""

    limit = 3

    def init(self):
        super().init()
        if "log" not in vars(self.ctx):
            self.ctx.log = []

    def s1(self):
        self.ctx.log.append("s1")

    def s2(self):
        self.ctx.log.append("s2")

    def s3(self):
        self.ctx.log.append("s3")

    def yes(self):
        self.ctx.log.append("yes?")
        return True

    def no(self):
        self.ctx.log.append("no?")
        return False

    def below(self):
        self.ctx.log.append("below?")
        return self.ctx.log.count("s1") < self.limit

    def code(self):
        return 5


def with_outline(make, **members):
    """Make a class with an outline, where the loader finds it."""

    @classmethod
    def define(cls, spec):
        super(made, cls).define(spec)
        spec.outputs.dynamic = True
        spec.outline(*make(cls))

    made = type(
        "Made",
        (Chain,),
        {"define": define, "__module__": __name__, "__qualname__": "Made", **members},
    )
    globals()["Made"] = made
    return made


async def run(cls, **inputs):
    chain = cls(inputs=inputs)
    await chain.step_until_terminated()
    return chain


class TestOrder:
    @pytest.mark.parametrize(
        ("make", "log"),
        [
            (lambda c: [c.s1, c.s2], ["s1", "s2"]),
            (lambda c: [if_(c.yes)(c.s1, c.s2), c.s3], ["yes?", "s1", "s2", "s3"]),
            (lambda c: [if_(c.no)(c.s1), c.s3], ["no?", "s3"]),
            (lambda c: [if_(c.no)(c.s1).else_(c.s2)], ["no?", "s2"]),
            (
                lambda c: [if_(c.no)(c.s1).elif_(c.no)(c.s1).elif_(c.yes)(c.s2).else_(c.s3)],
                ["no?", "no?", "yes?", "s2"],
            ),
            (lambda c: [while_(c.no)(c.s1), c.s2], ["no?", "s2"]),
            (
                lambda c: [while_(c.below)(c.s1, c.s2), c.s3],
                [*["below?", "s1", "s2"] * 3, "below?", "s3"],
            ),
            (
                lambda c: [if_(c.yes)(while_(c.below)(if_(c.no)(c.s3), c.s1)), c.s3],
                ["yes?", *["below?", "no?", "s1"] * 3, "below?", "s3"],
            ),
            (lambda c: [c.s1, return_, c.s2], ["s1"]),
            (lambda c: [while_(c.yes)(if_(c.yes)(c.s1, return_(4)))], ["yes?", "yes?", "s1"]),
        ],
    )
    async def test_steps_are_taken_in_the_order_of_the_outline(self, make, log):
        chain = await run(with_outline(make))
        assert chain.ctx.log == log
        assert chain.is_successful

    async def test_each_step_is_one_step_of_the_process(self):
        chain = with_outline(lambda c: [c.s1, if_(c.yes)(c.s2), if_(c.no)(c.s3), c.s3])()
        seen = []
        while not chain.has_terminated():
            await chain.step()
            seen.append(list(chain.ctx.log))
            chain.ctx.log.clear()
        assert seen == [[], ["s1"], ["yes?", "s2"], ["no?"], ["s3"]]

    async def test_a_loop_takes_its_condition_and_the_first_step_together(self):
        chain = with_outline(lambda c: [while_(c.below)(c.s1, c.s2)], limit=1)()
        seen = []
        while not chain.has_terminated():
            await chain.step()
            seen.append(list(chain.ctx.log))
        assert seen[1:] == [
            ["below?", "s1"],
            ["below?", "s1", "s2"],
            ["below?", "s1", "s2", "below?"],
        ]

    async def test_a_body_without_steps_may_be_there_if_it_is_never_entered(self):
        chain = await run(with_outline(lambda c: [if_(c.no)(), c.s1]))
        assert chain.ctx.log == ["no?", "s1"]
        chain = await run(with_outline(lambda c: [if_(c.yes)(), c.s1]))
        assert isinstance(chain.exception(), IndexError)

    def test_an_outline_without_steps_is_an_index_error(self):
        with pytest.raises(IndexError, match="no steps"):
            with_outline(lambda c: [])()

    def test_a_chain_needs_an_outline(self):
        class Without(plumpy.WorkChain):
            pass

        with pytest.raises(AssertionError, match="outline not yet loaded"):
            Without()


class TestResults:
    @pytest.mark.parametrize("result", [5, 0, False, "", "s", [1], object()])
    async def test_what_a_step_returns_ends_the_chain(self, result):
        chain = await run(with_outline(lambda c: [c.end, c.s1], end=lambda self: result))
        assert chain.ctx.log == []
        assert chain.result() is result

    @pytest.mark.parametrize("result", [None, {}, ToContext()])
    async def test_nothing_and_an_empty_dictionary_do_not(self, result):
        chain = await run(with_outline(lambda c: [c.go, c.s1], go=lambda self: result))
        assert chain.ctx.log == ["s1"]
        assert chain.result() is None

    @pytest.mark.parametrize(("instruction", "result"), [(return_, None), (return_(7), 7)])
    async def test_return_gives_its_code(self, instruction, result):
        chain = await run(with_outline(lambda c: [if_(c.yes)(instruction), c.s1]))
        assert chain.result() == result

    async def test_commands_from_a_step_are_followed(self):
        chain = await run(with_outline(lambda c: [c.stop], stop=lambda self: plumpy.Stop(3, False)))
        assert (chain.result(), chain.is_successful) == (3, False)

    async def test_an_exception_in_a_step_or_condition_excepts(self):
        def fails(self):
            raise KeyError("k")

        for make in (lambda c: [c.fails], lambda c: [if_(c.fails)(c.s1)]):
            chain = await run(with_outline(make, fails=fails))
            assert repr(chain.exception()) == "KeyError('k')"

    @pytest.mark.parametrize("value", ["text", [1], print])
    async def test_a_condition_that_is_not_boolean_gives_a_warning(self, value):
        cls = with_outline(lambda c: [if_(c.odd)(c.s1)], odd=lambda self: value)
        with pytest.warns(UserWarning, match="which is not boolean-like"):
            chain = await run(cls)
        assert chain.ctx.log == ["s1"]

    @pytest.mark.parametrize("value", [None, 0, 1, True])
    async def test_a_condition_may_be_anything_that_has_a_truth_value(self, value):
        chain = await run(with_outline(lambda c: [if_(c.even)(c.s1)], even=lambda self: value))
        assert chain.ctx.log == (["s1"] if value else [])

    async def test_steps_can_wait_in_a_synchronous_way(self):
        def step(self):
            plumpy.sync_await(asyncio.sleep(0))
            return 3

        assert (await run(with_outline(lambda c: [c.own_step], own_step=step))).result() == 3


class TestDefinition:
    @pytest.mark.parametrize(
        "step", [lambda: 1, lambda self, x: 1, lambda self, x=3: 1, lambda *args: 1]
    )
    def test_a_step_takes_the_chain_and_nothing_else(self, step):
        with pytest.raises(TypeError, match="Step must take one argument only: self"):
            WorkChainSpec().outline(step)

    @pytest.mark.parametrize("step", [5, "x", None])
    def test_a_step_is_a_function(self, step):
        with pytest.raises(TypeError, match="func is not a function, got <class"):
            WorkChainSpec().outline(step)

    def test_bodies_and_alternatives_are_given_once(self):
        instruction = if_(Chain.yes)(Chain.s1)
        with pytest.raises(AssertionError, match="already been set"):
            instruction(Chain.s1)
        instruction.else_(Chain.s1)
        with pytest.raises(AssertionError, match="else_"):
            instruction.else_(Chain.s1)
        instruction.elif_(Chain.no)(Chain.s2)
        loop = while_(Chain.yes)(Chain.s1)
        with pytest.raises(AssertionError, match="already been set"):
            loop(Chain.s1)
        with pytest.raises(AssertionError, match="not yet been set"):
            str(if_(Chain.yes))

    def test_a_decorated_step_may_take_what_it_passes_on(self):
        WorkChainSpec().outline(lambda self, *args, **kwargs: None)
        for wrong in (lambda *args: None, lambda self, other=1: None, int):
            with pytest.raises(TypeError):
                WorkChainSpec().outline(wrong)

    def test_the_description_has_the_outline(self):
        def documented(self):
            """What it
            does."""

        spec = WorkChainSpec()
        spec.outline(
            documented,
            if_(Chain.yes)(Chain.s1).elif_(Chain.no)(Chain.s2),
            while_(Chain.no)(Chain.s1),
            return_(3),
        )
        assert spec.get_description()["outline"] == [
            "documented(What it does.)",
            {"if(yes)": ["s1"], "elif(no)": ["s2"]},
            {"while(no)": ["s1"]},
            "Return from the outline immediately",
        ]


class TestStepper:
    """What AiiDA does: an outline without a plumpy work chain."""

    class Foreign:
        def __init__(self):
            self.log = []

        def s1(self):
            self.log.append("s1")

        def s2(self):
            self.log.append("s2")
            return 2

        def below(self):
            return len(self.log) < 4

        async def waits(self):
            pass

    class ForeignSpec(ProcessSpec):
        PORT_NAMESPACE_TYPE = type("Namespace", (PortNamespace,), {})

    class Spec(WorkChainSpec, ForeignSpec):
        pass

    def outline(self):
        spec = self.Spec()
        cls = self.Foreign
        spec.outline(cls.s1, while_(cls.below)(cls.s1, if_(cls.below)(cls.s2, cls.s2)), return_(3))
        return spec.get_outline()

    def test_it_can_be_stepped_saved_and_recreated_at_every_point(self):
        outline = self.outline()
        chain = self.Foreign()
        stepper = outline.create_stepper(chain)
        assert isinstance(stepper, Stepper)
        shown, results = [], []
        with pytest.raises(_PropagateReturn) as caught:
            while True:
                shown.append(str(stepper))
                state = stepper.save()
                stepper = outline.recreate_stepper(state, chain)
                assert stepper.save() == state
                results.append(stepper.step())
        assert caught.value.exit_code == 3
        assert shown == [
            "0:s1",
            "1:while_(below)",
            "1:while_(below)(1:if_(below))",
            "1:while_(below)(1:if_(below)(1:s2))",
            "1:while_(below)",
            "2:return_",
        ]
        assert results == [
            (False, None),
            (False, None),
            (False, 2),
            (False, 2),
            (False, None),
        ]

    def test_the_form_of_the_saved_state(self):
        outline = self.outline()
        stepper = outline.create_stepper(self.Foreign())
        assert stepper.save() == {
            "!!meta": {"class_name": "plumpy.workchains:_BlockStepper", "version": 1},
            "_pos": 0,
            "stepper_state": {
                "!!meta": {"class_name": "plumpy.workchains:_FunctionStepper", "version": 1},
                "_fn": "s1",
            },
        }
        for _ in range(3):
            stepper.step()
        assert stepper.save()["stepper_state"] == {
            "!!meta": {"class_name": "plumpy.workchains:_WhileStepper", "version": 1},
            "stepper_state": {
                "!!meta": {"class_name": "plumpy.workchains:_BlockStepper", "version": 1},
                "_pos": 1,
                "stepper_state": {
                    "!!meta": {"class_name": "plumpy.workchains:_IfStepper", "version": 1},
                    "_pos": 0,
                    "stepper_state": {
                        "!!meta": {"class_name": "plumpy.workchains:_BlockStepper", "version": 1},
                        "_pos": 1,
                        "stepper_state": {
                            "!!meta": {
                                "class_name": "plumpy.workchains:_FunctionStepper",
                                "version": 1,
                            },
                            "_fn": "s2",
                        },
                    },
                },
            },
        }

    def test_the_last_step_says_so(self):
        spec = self.Spec()
        spec.outline(self.Foreign.s1)
        assert spec.get_outline().create_stepper(self.Foreign()).step() == (True, None)

    def test_outside_a_portal_an_asynchronous_step_gives_its_coroutine(self):
        spec = self.Spec()
        spec.outline(self.Foreign.waits)
        finished, result = spec.get_outline().create_stepper(self.Foreign()).step()
        assert (finished, asyncio.iscoroutine(result)) == (True, True)
        result.close()

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"_pos": 4}, "at step 4 of a body that has 3"),
            ({"_fn": "gone"}, "at the step `gone`"),
            ({"_fn": "log"}, "at the step `log`"),
            ({"_fn": "__class__"}, "at the step `__class__`"),
        ],
    )
    def test_a_state_that_does_not_fit_the_outline_is_refused(self, change, text):
        outline = self.outline()
        chain = self.Foreign()
        state = outline.create_stepper(chain).save()
        (state if "_pos" in change else state["stepper_state"]).update(change)
        with pytest.raises(PersistenceError, match=text):
            outline.recreate_stepper(state, chain)

    def test_a_step_that_moved_in_the_outline_is_found_by_its_name(self):
        outline = self.outline()
        chain = self.Foreign()
        state = outline.create_stepper(chain).save()
        state["stepper_state"]["_fn"] = "s2"
        outline.recreate_stepper(state, chain).step()
        assert chain.log == ["s2"]


class TestCheckpoints:
    async def test_a_chain_goes_on_from_every_point(self):
        cls = with_outline(
            lambda c: [
                c.s1,
                if_(c.no)(c.s1).else_(c.s2, c.s3),
                while_(c.below)(c.s1, if_(c.yes)(c.s2, c.s3)),
                c.s3,
                c.code,
            ]
        )
        expected = (await run(cls)).ctx.log
        chain = cls()
        points = 0
        while not chain.has_terminated():
            chain = Bundle(chain, dereference=True).unbundle()
            await chain.step()
            points += 1
        assert points > 10
        assert (chain.ctx.log, chain.result()) == (expected, 5)

    @pytest.mark.parametrize(
        ("make", "stepper"),
        [
            (lambda c: [c.s1], "_FunctionStepper"),
            (lambda c: [if_(c.yes)(c.s1)], "_IfStepper"),
            (lambda c: [while_(c.below)(c.s1)], "_WhileStepper"),
            (lambda c: [return_(3)], "_ReturnStepper"),
        ],
    )
    async def test_a_single_instruction_is_the_whole_outline(self, make, stepper):
        """So 0.26.1 saves it, and expects it: there is no block around it."""
        cls = with_outline(make)
        expected = await run(cls)
        chain = cls()
        while not chain.has_terminated():
            bundle = Bundle(chain, dereference=True)
            assert bundle["stepper_state"]["!!meta"]["class_name"] == f"plumpy.workchains:{stepper}"
            chain = bundle.unbundle()
            await chain.step()
        assert (chain.ctx.log, chain.result()) == (expected.ctx.log, expected.result())
        assert not isinstance(cls.spec().get_description()["outline"], list)

    async def test_a_checkpoint_made_during_a_step_leads_back_to_that_step(self):
        bundles = []

        def step(self):
            bundles.append(Bundle(self, dereference=True))
            self.ctx.log.append("step")

        chain = await run(with_outline(lambda c: [c.s1, c.own_step, c.s2], own_step=step))
        loaded = bundles[0].unbundle()
        assert loaded.ctx.log == ["s1"]
        await loaded.step_until_terminated()
        assert loaded.ctx.log == chain.ctx.log == ["s1", "step", "s2"]

    async def test_the_same_holds_while_an_asynchronous_step_waits(self):
        entered, go = asyncio.Event(), asyncio.Event()

        async def step(self):
            entered.set()
            await go.wait()
            self.ctx.log.append("step")

        chain = with_outline(lambda c: [c.s1, c.own_step, c.s2], own_step=step)()
        task = asyncio.ensure_future(chain.step_until_terminated())
        await entered.wait()
        loaded = Bundle(chain, dereference=True).unbundle()
        go.set()
        await task
        await loaded.step_until_terminated()
        assert loaded.ctx.log == chain.ctx.log == ["s1", "step", "s2"]


class TestSavedNames:
    def test_steppers_are_saved_under_their_public_names(self):
        for name in ("_BlockStepper", "_IfStepper", "_WhileStepper", "_FunctionStepper"):
            assert getattr(plumpy.workchains, name).__module__ == "plumpy.workchains"
        assert issubclass(Stepper, Savable)
