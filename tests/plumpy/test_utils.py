"""Small helpers."""

from __future__ import annotations

import collections
import copy
import os
import pickle
from typing import Any

import pytest

from plumpy import utils
from plumpy.utils import AttributesDict, AttributesFrozendict


def test_frozen_mapping() -> None:
    frozen = AttributesFrozendict({"a": 1, "items": 3})
    assert (frozen.a, frozen["items"], len(frozen), "a" in frozen) == (1, 3, 2, True)
    assert list(frozen.items()) == [("a", 1), ("items", 3)], "the class comes first"
    assert dir(frozen) == ["a", "items"]
    assert frozen == {"a": 1, "items": 3}
    assert repr(frozen) == "<AttributesFrozendict {'a': 1, 'items': 3}>"
    with pytest.raises(AttributeError, match="'AttributesFrozendict' object has no attribute 'b'"):
        frozen.b
    with pytest.raises(TypeError):
        frozen["a"] = 2  # type: ignore[index]
    assert frozen.copy(z=1) == {"a": 1, "items": 3, "z": 1}
    assert type(frozen.copy()) is AttributesFrozendict
    frozen.new = 1
    assert frozen.new == 1


def test_frozen_mapping_is_hashable_if_its_values_are() -> None:
    assert hash(AttributesFrozendict(a=1)) == hash(AttributesFrozendict(a=1))
    with pytest.raises(TypeError, match="unhashable"):
        hash(AttributesFrozendict(a=[]))


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))]
)
def test_frozen_mapping_is_copied(copied: Any) -> None:
    frozen = AttributesFrozendict(a=[1])
    assert copied(frozen) == frozen
    assert copied(frozen).a == [1]


def test_attributes_dict() -> None:
    values = AttributesDict(x=1)
    values["y"] = 2
    assert (values.y, values["x"], values.get("z"), values.get("z", 3)) == (2, 1, None, 3)
    assert values.setdefault("z", 4) == 4
    del values["y"]
    with pytest.raises(KeyError, match="No key 'y'"):
        values["y"]
    with pytest.raises(AttributeError):
        del values["y"]
    with pytest.raises(TypeError):
        list(values)


def test_load_object_and_function() -> None:
    assert utils.load_object("os.path.join") is os.path.join
    assert utils.load_function("os.path.join") is os.path.join
    assert utils.load_function("collections.Counter") is collections.Counter
    module, rest = utils.load_module("os.path.join.more")
    assert (module, list(rest)) == (os.path, ["join", "more"])
    counter = collections.Counter()
    method = utils.load_function("collections.Counter.total", counter)
    assert method.__self__ is counter
    for name in ("nope.x", "os.path.nope"):
        with pytest.raises(ValueError, match="Could not load"):
            utils.load_object(name)
    with pytest.raises(ValueError, match=r"Invalid function name 'os\.path'"):
        utils.load_function("os.path")


def test_type_check() -> None:
    utils.type_check(1, int)
    with pytest.raises(TypeError, match="Got object of type"):
        utils.type_check(1, str)


def test_mutable_property() -> None:
    class Has:
        fixed = property(lambda self: 1)
        free = property(lambda self: 1, lambda self, value: None)
        plain = 1

    assert [utils.is_mutable_property(Has, name) for name in ("fixed", "free", "plain", "no")] == [
        False,
        True,
        False,
        False,
    ]


async def coroutine_function() -> str:
    return "async"


class AsyncCallable:
    async def __call__(self) -> str:
        return "callable"


async def test_ensure_coroutine() -> None:
    callable_object = AsyncCallable()
    assert utils.ensure_coroutine(coroutine_function) is coroutine_function
    assert utils.ensure_coroutine(callable_object) is callable_object
    wrapped = utils.ensure_coroutine(lambda: "plain")
    assert await wrapped() == "plain"
    assert await utils.ensure_coroutine(dict)(a=1) == {"a": 1}

    class Called:
        def __call__(self, value: int) -> tuple[str, int]:
            return "called", value

    assert await utils.ensure_coroutine(Called())(1) == ("called", 1)
    assert await utils.ensure_coroutine(Called)(Called(), 2) == ("called", 2)
