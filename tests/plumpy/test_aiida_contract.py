"""What aiida-core does with plumpy beyond its public interface, held without aiida-core."""

import ast
import copy

import pytest

import plumpy
import plumpy.processes
import plumpy.workchains
from plumpy import process_states


class EncodedAsText(plumpy.Process):
    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input("number", valid_type=int)
        spec.output("twice", valid_type=int)

    def encode_input_args(self, inputs):
        return repr(dict(inputs))

    def decode_input_args(self, encoded):
        assert isinstance(encoded, str)
        return ast.literal_eval(encoded)

    def run(self):
        self.out("twice", 2 * self.inputs["number"])


async def test_inputs_may_be_encoded_as_text_in_a_checkpoint():
    loaded = plumpy.Bundle(EncodedAsText(inputs={"number": 4})).unbundle()
    await loaded.step_until_terminated()
    assert loaded.outputs == {"twice": 8}


async def test_on_entered_is_looked_up_on_the_class_when_it_is_called(monkeypatch):
    entered = []
    original = copy.deepcopy(plumpy.Process.on_entered)

    def on_entered(self, from_state):
        entered.append(self.state)
        original(self, from_state)

    monkeypatch.setattr(plumpy.Process, "on_entered", on_entered)
    await plumpy.Process().step_until_terminated()
    assert entered == [
        plumpy.ProcessState.CREATED,
        plumpy.ProcessState.RUNNING,
        plumpy.ProcessState.FINISHED,
    ]


class TwoTurns(process_states.Waiting):
    """Waits by itself, twice: the state that `execute` returns may be the state itself."""

    turns = 0

    async def execute(self):
        self.turns += 1
        if self.turns < 2:
            return self
        return self.create_state(plumpy.ProcessState.FINISHED, "done", True)


class WithOwnWaiting(plumpy.Process):
    @classmethod
    def get_states_map(cls):
        return {**super().get_states_map(), plumpy.ProcessState.WAITING: TwoTurns}

    @classmethod
    def get_state_classes(cls):
        return {**super().get_state_classes(), plumpy.ProcessState.WAITING: TwoTurns}

    def run(self):
        return plumpy.Wait(msg="waiting", data={"turns": 2})


async def test_a_waiting_state_may_return_itself():
    process = WithOwnWaiting()
    await process.step_until_terminated()
    assert process.result() == "done"


@pytest.mark.parametrize(
    ("module", "name"),
    [(plumpy.processes, "ConnectionClosed"), (plumpy.workchains, "_PropagateReturn")],
)
def test_names_that_aiida_imports_outside_the_public_interface_exist(module, name):
    assert isinstance(getattr(module, name), type)
