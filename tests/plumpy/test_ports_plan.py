"""Compiled namespaces: what is known of earlier values never changes what is said of later ones."""

from __future__ import annotations

import collections.abc
import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plumpy
from plumpy.ports import UNSPECIFIED, InputPort, PortNamespace, PortValidationError


class Number(int):
    pass


class AnyLength(type):
    """Its classes say themselves what their instances are: texts of an even length."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, str) and len(instance) % 2 == 0


class Even(metaclass=AnyLength):
    pass


def one_port(**options: Any) -> PortNamespace:
    result = PortNamespace("n")
    result["a"] = InputPort("a", **options)
    return result


def said_of(namespace: PortNamespace, values: Any) -> Any:
    """Return what a namespace says of values, by each of its ways."""
    parsed, error = namespace._parse(values)
    checked = namespace.validate(namespace.pre_process(values))
    assert str(error) == str(checked)
    return parsed, None if error is None else (error.port, error.message)


@pytest.mark.parametrize(
    ("options", "right", "wrong"),
    [
        ({"valid_type": int}, {"a": 1}, {"a": "1"}),
        ({"valid_type": int}, {"a": 1}, {}),
        ({"valid_type": int}, {"a": 1}, {"a": UNSPECIFIED}),
        ({"valid_type": int}, {"a": Number(1)}, {"a": 1.0}),
        ({"valid_type": int, "required": False}, {}, {"a": (1,)}),
        ({"valid_type": int, "required": False}, {"a": UNSPECIFIED}, {"a": (1,)}),
        ({"valid_type": tuple}, {"a": (1,)}, {"a": ()}),
        ({}, {"a": (1,)}, {"a": ()}),
        ({"valid_type": (int, str)}, {"a": "x"}, {"a": b"x"}),
        ({"valid_type": collections.abc.Sized}, {"a": "x"}, {"a": 1}),
        ({"valid_type": Even}, {"a": "xx"}, {"a": "xxx"}),
        ({"valid_type": (Even, int)}, {"a": "xx"}, {"a": "xxx"}),
        ({"valid_type": int}, {"a": 1}, {"a": 1, "b": 1}),
        ({"validator": lambda v, _: None if v < 2 else "big"}, {"a": 1}, {"a": 2}),
    ],
)
def test_wrong_values_are_found_after_right_ones(options, right, wrong):
    ns = one_port(**options)
    for _ in range(6):
        assert said_of(ns, right)[1] is None
        assert said_of(ns, wrong)[1] is not None


def test_values_of_inner_namespaces_are_looked_at_each_time():
    ns = PortNamespace("n")
    ns["s"] = one_port(valid_type=int)
    for _ in range(6):
        assert said_of(ns, {"s": {"a": 1}})[1] is None
        assert said_of(ns, {"s": {"a": "1"}})[1] is not None
        assert said_of(ns, {"s": {}})[1] is not None
        assert said_of(ns, {})[1] is not None
        assert said_of(ns, {"s": None})[1] is not None


def test_a_namespace_that_is_not_filled_in_is_checked_all_the_same():
    calls = []
    inner = PortNamespace(
        "s", populate_defaults=False, validator=lambda values, _: calls.append(values)
    )
    inner["a"] = InputPort("a", default=1)
    ns = PortNamespace("n")
    ns["s"] = inner
    for _ in range(6):
        assert said_of(ns, {})[1] is None
    assert calls == [{}] * 12


def test_validators_are_called_each_time_in_the_order_of_the_ports():
    called = []
    ns = PortNamespace("n", validator=lambda *_: called.append("n"))
    for name in "abcdef":
        validator = (lambda v, p: called.append(p.name)) if name in "be" else None
        ns[name] = InputPort(name, valid_type=int, validator=validator)
    for _ in range(6):
        called.clear()
        assert ns._parse(dict.fromkeys("abcdef", 1))[1] is None
        assert called == ["b", "e", "n"]


def test_a_port_that_changes_is_looked_at_anew():
    ns = one_port(valid_type=int)
    for _ in range(3):
        assert said_of(ns, {"a": 1})[1] is None
    ns["a"].valid_type = str
    assert said_of(ns, {"a": 1})[1] is not None
    assert said_of(ns, {"a": "1"})[1] is None


def test_values_of_undeclared_ports_are_looked_at_each_time():
    ns = PortNamespace("n", dynamic=True, valid_type=int)
    ns["a"] = InputPort("a", valid_type=int)
    for _ in range(6):
        assert said_of(ns, {"a": 1, "x": {"y": 1}})[1] is None
        assert said_of(ns, {"a": 1, "x": {"y": "1"}})[1] is not None


class CountingNamespace(PortNamespace):
    calls = 0

    def validate(self, *args: Any) -> PortValidationError | None:
        type(self).calls += 1
        return super().validate(*args)


def test_a_namespace_class_that_overrides_validate_is_asked():
    ns = CountingNamespace("n")
    ns["a"] = InputPort("a", valid_type=int)
    for _ in range(6):
        assert ns._parse({"a": 1})[1] is None
    assert CountingNamespace.calls == 6


VALUES = st.one_of(
    st.just(UNSPECIFIED),
    st.none(),
    st.integers(),
    st.text(max_size=3),
    st.just((1,)),
    st.booleans(),
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "valid_type": st.sampled_from([int, str, tuple, (int, str), collections.abc.Sized, Even]),
        "required": st.booleans(),
    },
)


@settings(max_examples=200, deadline=None)
@given(
    ports=st.dictionaries(st.sampled_from("abcd"), OPTIONS, max_size=4),
    inner=st.dictionaries(st.sampled_from("ab"), OPTIONS, max_size=2),
    dynamic=st.booleans(),
    series=st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from("abcdx"), VALUES, max_size=5),
            st.one_of(st.none(), st.dictionaries(st.sampled_from("ab"), VALUES, max_size=2)),
        ),
        min_size=2,
        max_size=8,
    ),
)
def test_a_namespace_that_has_seen_values_says_what_a_new_one_says(ports, inner, dynamic, series):
    seasoned = PortNamespace("n", dynamic=dynamic)
    for name, options in ports.items():
        seasoned[name] = InputPort(name, **options)
    seasoned["s"] = PortNamespace("s")
    for name, options in inner.items():
        seasoned["s"][name] = InputPort(name, **options)
    for outer_values, inner_values in series:
        values = {**outer_values, **({} if inner_values is None else {"s": inner_values})}
        said = said_of(seasoned, values)
        assert said == said_of(copy.deepcopy(seasoned), values)
        assert said == said_of(seasoned, values)


def test_constructing_a_process_calls_what_it_did_before():
    class Own(plumpy.Process):
        @classmethod
        def define(cls, spec):
            super().define(spec)
            spec.input("a", valid_type=int)
            spec.inputs.validator = lambda values, _: "too big" if values["a"] > 5 else None

    for _ in range(6):
        assert Own(inputs={"a": 1}).inputs.a == 1
        with pytest.raises(ValueError, match="too big"):
            Own(inputs={"a": 6})
        with pytest.raises(ValueError, match="right type"):
            Own(inputs={"a": "1"})
