"""Values as text: what has a form, what has none, and how that is said."""

import collections
import datetime
import decimal
import enum
import fractions
import json
import math
import pathlib
import uuid
import zoneinfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumpy import persistence
from plumpy.exceptions import PersistenceError
from plumpy.persistence import Bundle, Savable, auto_persist
from plumpy.persistence._codec import dumps, loads
from plumpy.utils import AttributesDict, AttributesFrozendict


class Color(enum.Enum):
    RED = 1
    BLUE = object()


class Level(enum.IntEnum):
    LOW = 1


@auto_persist("value")
class Thing(Savable):
    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return type(other) is Thing and other.value == self.value

    __hash__ = None

    def __repr__(self):
        return f"Thing({self.value!r})"


class Text(str):
    __slots__ = ()


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
HASHABLE = (
    PLAIN
    | st.binary()
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.dates()
    | st.times()
    | st.datetimes()
    | st.timedeltas()
    | st.complex_numbers(allow_nan=False)
    | st.sampled_from(Color)
)
VALUES = st.recursive(
    HASHABLE | st.sets(HASHABLE, max_size=3) | st.frozensets(HASHABLE, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(HASHABLE | st.sampled_from(["$tuple", "$dict", "$x"]), inner, max_size=3)
        | st.dictionaries(st.text(min_size=1), inner, max_size=3).map(AttributesFrozendict)
    ),
    max_leaves=10,
)


@settings(deadline=None)
@given(VALUES)
def test_values_come_back_equal_and_of_the_same_type(value):
    loaded = loads(dumps(value))
    assert loaded == value
    assert type(loaded) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        float("inf"),
        -0.0,
        bytearray(b"\0x"),
        range(1, 10, 3),
        datetime.datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc),
        datetime.time(2, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=1), "X")),
        pathlib.Path("/some/where"),
        pathlib.PureWindowsPath("c:\\some\\where"),
        collections.OrderedDict(b=1, a=(2,)),
        AttributesDict(a=1, b=AttributesDict()),
        Level.LOW,
        Color,
        Savable,
        Thing([1, {2: (3,)}]),
        "a lone surrogate \ud800",
        2**100,
        {"$tuple": [1]},
        {"": {"$": 1}},
        {1: 2, "1": 3, None: 4, (1, 2): 5},
    ],
    ids=repr,
)
def test_more_values_come_back(value):
    loaded = loads(dumps(value))
    assert (type(loaded), repr(loaded)) == (type(value), repr(value))


def test_not_a_number_comes_back():
    assert math.isnan(loads(dumps(float("nan"))))


def test_exceptions_come_back():
    assert repr(loads(dumps([ValueError("x", 1)]))) == "[ValueError('x', 1)]"


def test_bundles_come_back():
    loaded = loads(dumps(Bundle(Thing((1,)))))
    assert type(loaded) is Bundle
    assert loaded.unbundle() == Thing((1,))


def test_the_text_is_ascii_json():
    text = dumps({"a": ("ä", uuid.UUID(int=1))})
    assert text.isascii()
    assert json.loads(text) == {
        "a": {"$tuple": ["ä", {"$uuid": "00000000-0000-0000-0000-000000000001"}]}
    }


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"_context": {"structure": {"parser": object()}}}, "ctx.structure.parser"),
        ({"INPUTS_RAW": AttributesFrozendict(a=[1, {2: print}])}, "inputs.a[1][2]"),
        ({"OUTPUTS": {"x": (1, {Text("a")})}}, "outputs.x[1][0]"),
        ({"_context": {"f": lambda: 1}}, "ctx.f"),
        ({"a": Thing({"b": open})}, "a.value.b"),
        ({"a": {"b": Text("x")}}, "a.b"),
        ({"a": type("Local", (), {})}, "a"),
        ({"a": decimal}, "a"),
        ({"a": AttributesDict(b=iter(()))}, "a.b"),
    ],
)
def test_what_has_no_form_is_named_by_its_path(value, path):
    with pytest.raises(PersistenceError) as caught:
        dumps(value)
    assert f"cannot save `{path}`: " in str(caught.value)


def test_a_value_that_contains_itself_is_refused():
    value = {"a": []}
    value["a"].append(value)
    with pytest.raises(PersistenceError, match=r"`a\[0\]`: it refers to itself"):
        dumps(value)


def test_a_value_that_is_there_twice_is_stored_twice():
    shared = [1]
    assert loads(dumps([shared, shared])) == [[1], [1]]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"$unknown": 1}',
        '{"$class": "os:getcwd"}',
        '{"$class": "nowhere:X"}',
        '{"$enum": ["collections:OrderedDict", "x"]}',
        '{"$enum": ["plumpy:ProcessState", "NOTHING"]}',
        '{"$uuid": "x"}',
        '{"$range": 5}',
        '{"$savable": {"!!meta": {"class_name": "os:system"}}}',
    ],
)
def test_text_that_cannot_be_read_is_a_persistence_error(text):
    with pytest.raises(PersistenceError):
        loads(text)


def test_a_class_is_found_by_the_loader_that_identified_it():
    class Mine(persistence.loaders.DefaultObjectLoader):
        def identify_object(self, obj):
            return "mine-" + super().identify_object(obj)

        def load_object(self, identifier):
            return super().load_object(identifier.removeprefix("mine-"))

    text = dumps(fractions.Fraction, Mine())
    assert text == '{"$class":"mine-fractions:Fraction"}'
    assert loads(text, Mine()) is fractions.Fraction
