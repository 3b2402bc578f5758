"""Specifications: defining ports, exposing those of other processes, sealing."""

import json
import warnings

import pytest

from plumpy.ports import InputPort, OutputPort, PortNamespace
from plumpy.process_spec import ProcessSpec


def exposing(define):
    """Return something that can be exposed: a class with a specification."""
    made = ProcessSpec()
    define(made)

    class Exposed:
        @classmethod
        def spec(cls):
            return made

    return Exposed


@pytest.fixture
def source():
    def define(spec):
        spec.input("a", default=1)
        spec.input("ns.b")
        spec.output("o")

    return exposing(define)


def test_a_specification_has_namespaces_for_inputs_and_outputs():
    spec = ProcessSpec()
    assert list(spec.ports) == ["inputs", "outputs"]
    assert spec.inputs is spec.ports["inputs"]
    assert spec.outputs is spec.ports["outputs"]
    assert spec.namespace_separator == "."


def test_ports_are_of_the_classes_of_the_specification():
    class Inputs(InputPort):
        pass

    class Namespace(PortNamespace):
        pass

    class Mine(ProcessSpec):
        INPUT_PORT_TYPE = Inputs
        PORT_NAMESPACE_TYPE = Namespace

    spec = Mine()
    spec.input("a.b", valid_type=int)
    spec.output("o", valid_type=int)
    spec.input_namespace("n", dynamic=True)
    assert type(spec.inputs["a"]) is Namespace
    assert type(spec.inputs["a"]["b"]) is Inputs
    assert type(spec.outputs["o"]) is OutputPort
    assert spec.inputs["n"].dynamic
    assert spec.has_input("a")
    assert not spec.has_input("a.b")
    assert spec.has_output("o")


def test_a_name_with_dots_creates_the_namespaces_on_the_way():
    spec = ProcessSpec()
    spec.input("n.m.b", default=1)
    assert (spec.inputs["n"].required, spec.inputs["n"].dynamic) == (True, False)
    assert spec.inputs["n"]["m"]["b"].default == 1


def test_a_path_does_not_lead_through_a_port():
    spec = ProcessSpec()
    spec.input("a")
    with pytest.raises(ValueError, match="the name 'a' in 'inputs' already contains a Port"):
        spec.input("a.b")


@pytest.mark.parametrize("name", ["", "x.", "x..y", ".x"])
def test_a_name_cannot_be_empty(name):
    with pytest.raises(ValueError, match="empty string"):
        ProcessSpec().input(name)


def test_a_later_definition_replaces_an_earlier_one():
    spec = ProcessSpec()
    spec.input("a", help="first")
    spec.input("a", help="second")
    assert spec.inputs["a"].help == "second"


@pytest.mark.parametrize("define", ["input", "output", "input_namespace", "output_namespace"])
def test_a_sealed_specification_takes_no_definitions(define):
    spec = ProcessSpec()
    assert not spec.sealed
    spec.seal()
    spec.seal()
    assert spec.sealed
    with pytest.raises(RuntimeError, match="after the spec has been sealed"):
        getattr(spec, define)("z")


def test_the_description_is_json():
    spec = ProcessSpec()
    spec.input("a", valid_type=int)
    assert json.loads(str(spec))["inputs"]["a"] == {
        "name": "a",
        "required": "True",
        "valid_type": "<class 'int'>",
    }


@pytest.mark.parametrize("namespace", [None, "t", "t.u"])
def test_exposed_inputs_are_remembered_by_namespace_and_class(source, namespace):
    spec = ProcessSpec()
    spec.expose_inputs(source, namespace=namespace)
    target = spec.inputs.get_port(namespace) if namespace else spec.inputs
    assert list(target) == ["a", "ns"]
    assert spec._exposed_inputs == {namespace: {source: ["a", "ns"]}}


def test_exposed_outputs_are_remembered_too(source):
    spec = ProcessSpec()
    spec.expose_outputs(source, namespace="q")
    assert spec._exposed_outputs == {"q": {source: ["o"]}}
    assert list(spec.outputs["q"]) == ["o"]


def test_the_memory_of_what_was_exposed_can_be_asked_for_anything():
    spec = ProcessSpec()
    assert spec._exposed_inputs["nothing"]["nobody"] == []
    assert spec._exposed_outputs[None]["nobody"] == []


def test_exposing_hands_on_rules_and_options(source):
    spec = ProcessSpec()
    spec.expose_inputs(source, "t", exclude=("a",), namespace_options={"help": "h"})
    assert list(spec.inputs["t"]) == ["ns"]
    assert spec.inputs["t"].help == "h"
    spec.expose_inputs(source, include=["a"])
    assert "a" in spec.inputs
    assert "ns" not in spec.inputs


def test_exposing_takes_ports_through_setitem(source):
    seen = []

    class Namespace(PortNamespace):
        def __setitem__(self, key, port):
            seen.append(key)
            super().__setitem__(key, port)

    class Mine(ProcessSpec):
        PORT_NAMESPACE_TYPE = Namespace

    spec = Mine()
    seen.clear()
    spec.expose_inputs(source, namespace="t")
    assert seen == ["t", "a", "ns"]


def test_using_a_specification_before_it_is_sealed_gives_no_warning(source):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spec = ProcessSpec()
        spec.input("a")
        spec.inputs.validate({"a": 1})
        spec.inputs.dynamic = True
        spec.expose_inputs(source)
        spec.seal()
