"""Single ports: what they accept, and what they say about it."""

import copy
import json
import pickle

import pytest

from plumpy.ports import (
    UNSPECIFIED,
    InputPort,
    OutputPort,
    Port,
    PortValidationError,
    breadcrumbs_to_port,
)


def message(error):
    assert isinstance(error, PortValidationError)
    return error.message


def test_unspecified_is_the_empty_tuple():
    assert UNSPECIFIED is ()  # noqa: F632


def test_a_required_port_needs_a_value():
    error = Port("a").validate(UNSPECIFIED, ("inputs", "ns"))
    assert message(error) == "required value was not provided for 'a'"
    assert error.port == "inputs.ns.a"
    assert str(error) == (
        "Error occurred validating port 'inputs.ns.a': required value was not provided for 'a'"
    )


def test_a_port_that_is_not_required_needs_none():
    assert Port("a", required=False, valid_type=int).validate(UNSPECIFIED) is None


@pytest.mark.parametrize(
    ("valid_type", "value"), [(int, 3), (int, True), ((int, str), "s"), (None, None), (type, int)]
)
def test_values_of_the_type_are_valid(valid_type, value):
    assert Port("a", valid_type=valid_type).validate(value) is None


@pytest.mark.parametrize(("valid_type", "value"), [(int, "3"), (int, None), ((int, str), 2.0)])
def test_values_of_another_type_are_not(valid_type, value):
    assert message(Port("a", valid_type=valid_type).validate(value)) == (
        f"value 'a' is not of the right type. Got '{type(value)}', expected '{valid_type}'"
    )


def test_a_validator_gets_the_value_and_the_port():
    seen = []
    port = Port("a", validator=lambda *args: seen.append(args))
    assert port.validate(3) is None
    assert seen == [(3, port)]


def test_a_validator_says_what_is_wrong():
    error = Port("a", validator=lambda value, port: f"{value} is bad").validate(3, ["n"])
    assert (error.message, error.port) == ("3 is bad", "n.a")


def test_a_validator_is_not_asked_about_no_value_or_the_wrong_type():
    def validator(value, port):
        raise AssertionError("asked")

    port = Port("a", valid_type=int, required=False, validator=validator)
    assert port.validate(UNSPECIFIED) is None
    assert "right type" in message(port.validate("s"))


def test_a_validator_with_one_argument_still_works_with_a_warning():
    port = Port("a", validator=lambda value: "bad")
    with pytest.warns(UserWarning, match="only takes a single argument"):
        assert message(port.validate(3)) == "bad"


class Callable:
    def __call__(self, value, port):
        return "called"

    def method(self, value, port):
        return "called"

    __hash__ = None


@pytest.mark.parametrize("validator", [Callable(), Callable().method])
def test_validators_may_be_any_callable(validator):
    assert message(Port("a", validator=validator).validate(3)) == "called"


def test_a_validator_that_returns_no_text_is_an_error():
    with pytest.raises(AssertionError, match="Validator returned non string type: 5 for port 'a'"):
        Port("a", validator=lambda value, port: 5).validate(3)


def test_what_a_validator_raises_goes_through():
    with pytest.raises(ZeroDivisionError):
        Port("a", validator=lambda value, port: 1 / 0).validate(3)


def test_the_properties_of_a_port_can_be_set():
    port = Port("a")
    port.help, port.required, port.valid_type = "h", False, int
    port.validator = lambda value, port: "v"
    assert port.name == "a"
    assert (port.help, port.required, port.valid_type) == ("h", False, int)
    assert port.validate(UNSPECIFIED) is None
    assert message(port.validate(1)) == "v"


def test_an_input_with_a_default_is_not_required():
    port = InputPort("a", default=3, valid_type=int)
    assert (port.required, port.has_default(), port.default) == (False, True, 3)
    assert InputPort.required_override(True, 3) is False
    assert InputPort.required_override(True, UNSPECIFIED) is True


def test_no_default_is_an_error_to_ask_for():
    port = InputPort("a")
    assert not port.has_default()
    with pytest.raises(RuntimeError, match="No default"):
        port.default


@pytest.mark.parametrize("default", ["x", None])
def test_a_default_has_to_be_valid(default):
    with pytest.raises(ValueError, match="Invalid default value: value 'a'"):
        InputPort("a", valid_type=int, default=default)


def test_a_callable_default_is_not_called_before_it_is_needed():
    port = InputPort("a", valid_type=int, default=lambda: 1 / 0)
    assert callable(port.default)


def test_a_default_can_be_set_later():
    port = InputPort("a", valid_type=int)
    port.default = 3
    assert (port.has_default(), port.default) == (True, 3)


def test_descriptions_are_texts():
    port = InputPort("a", valid_type=int, help=" h ", default=3)
    assert port.get_description() == {
        "name": "a",
        "required": "False",
        "valid_type": "<class 'int'>",
        "help": "h",
        "default": "3",
    }
    assert json.loads(str(port)) == port.get_description()
    assert OutputPort("o").get_description() == {"name": "o", "required": "True"}


def test_outputs_have_no_default():
    with pytest.raises(TypeError, match="default"):
        OutputPort("o", default=3)


def test_copies_and_pickles_of_a_port_are_equal_in_all_but_identity():
    port = InputPort("a", valid_type=int, help="h", default=3)
    for other in (copy.copy(port), copy.deepcopy(port), pickle.loads(pickle.dumps(port))):
        assert other is not port
        assert other.get_description() == port.get_description()


def test_breadcrumbs_make_a_path():
    assert breadcrumbs_to_port(["a", "b"]) == "a.b"
    assert breadcrumbs_to_port(()) == ""
