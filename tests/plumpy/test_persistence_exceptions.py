"""Exceptions as text, and what text cannot do."""

import asyncio
import threading

import pytest
import yaml

import plumpy
from plumpy.persistence import (
    ExceptionStandIn,
    SavableFuture,
    decode_exception,
    encode_exception,
)


class CodedError(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class ReducedError(Exception):
    def __init__(self, first, second):
        self.first = first
        self.second = second

    def __reduce__(self):
        return ReducedError, (self.first, self.second)

    def __str__(self):
        return f"{self.first}-{self.second}"


class LockedError(Exception):
    def __init__(self):
        super().__init__("has a lock")
        self.lock = threading.Lock()
        self.number = 3


class NoTextError(Exception):
    def __str__(self):
        raise RuntimeError

    __repr__ = __str__


class Outer:
    class InnerError(Exception):
        pass


def local_error():
    class LocalError(Exception):
        pass

    return LocalError("somewhere")


@pytest.mark.parametrize(
    "exception",
    [
        ValueError("x"),
        ValueError(),
        ValueError(1, (2, 3), {"a": [b"x", None, 1.5]}),
        ValueError("a\ud800b\n\0"),
        KeyError("k"),
        FileNotFoundError(2, "nope", "file"),
        UnicodeDecodeError("utf8", b"x", 0, 1, "reason"),
        ImportError("x", name="n", path="p"),
        SystemExit(3),
        StopIteration(4),
        SyntaxError("m", ("file", 1, 2, "text")),
        asyncio.CancelledError("c"),
        CodedError(3, "message"),
        ReducedError(1, "b"),
        Outer.InnerError("inner"),
    ],
    ids=repr,
)
def test_class_arguments_attributes_and_message_come_back(exception):
    loaded = decode_exception(encode_exception(exception))
    assert type(loaded) is type(exception)
    assert repr(loaded) == repr(exception)
    assert str(loaded) == str(exception)
    assert vars(loaded) == vars(exception)
    if isinstance(exception, OSError):
        assert (loaded.errno, loaded.filename) == (exception.errno, exception.filename)
    if isinstance(exception, ImportError):
        assert (loaded.name, loaded.path) == (exception.name, exception.path)
    if isinstance(exception, SystemExit):
        assert loaded.code == exception.code


def test_notes_come_back():
    exception = ValueError("x")
    exception.__notes__ = ["a note"]
    assert decode_exception(encode_exception(exception)).__notes__ == ["a note"]


def test_attributes_that_are_no_plain_values_are_left_out():
    loaded = decode_exception(encode_exception(LockedError()))
    assert type(loaded) is LockedError
    assert str(loaded) == "has a lock"
    assert vars(loaded) == {"number": 3}


def test_arguments_that_are_no_plain_values_are_kept_as_text():
    lock = threading.Lock()
    loaded = decode_exception(encode_exception(ValueError("x", lock)))
    assert loaded.args == ("x", repr(lock))


def test_of_an_exception_whose_class_cannot_be_found_name_and_message_are_kept():
    loaded = decode_exception(encode_exception(local_error()))
    assert str(loaded) == f"{__name__}.local_error.<locals>.LocalError: somewhere"


def test_no_exception_fails_to_be_encoded():
    assert type(decode_exception(encode_exception(NoTextError(NoTextError())))) is NoTextError


def test_the_text_is_that_of_pyyaml():
    for exception in (ValueError("x", 3), KeyError(), CodedError(3, "m"), ValueError((1, [2]))):
        assert encode_exception(exception) == yaml.dump(exception)


@pytest.mark.parametrize(
    ("text", "type_name", "message"),
    [
        ("!!python/object/apply:no_such_module.Gone [sad, 3]", "no_such_module.Gone", "sad, 3"),
        ("!!python/object/apply:builtins.Gone {args: [sad]}", "builtins.Gone", "sad"),
        ("!!python/object/apply:os.getcwd []", "os.getcwd", ""),
    ],
)
def test_what_is_no_exception_here_becomes_a_stand_in(text, type_name, message):
    loaded = decode_exception(text)
    assert type(loaded) is ExceptionStandIn
    assert (loaded.type_name, loaded.text) == (type_name, message)
    assert str(loaded) == (f"{type_name}: {message}" if message else type_name)


def test_a_stand_in_can_be_stored_again():
    stand_in = decode_exception("!!python/object/apply:no_such_module.Gone [sad]")
    assert str(decode_exception(encode_exception(stand_in))) == "no_such_module.Gone: sad"


@pytest.mark.parametrize(
    "text", ["", "x", "[1]", "!!python/name:os.system", "{", "!!set {a}", "\0"]
)
def test_any_other_text_becomes_a_stand_in(text):
    assert type(decode_exception(text)) is ExceptionStandIn


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch {mark}']",
        "!!python/object/new:os.system ['touch {mark}']",
        "!!python/object/apply:subprocess.Popen {{args: [[touch, {mark}]]}}",
        "!!python/object/apply:builtins.eval ['open({mark!r}, \"w\")']",
        "!!python/object/apply:{module}.A [!!python/object/apply:os.system ['touch {mark}']]",
        "!!python/object/apply:{module}.A {{state: !!python/object/apply:os.system ['touch x']}}",
        "!!python/object/apply:builtins.ValueError {{state: {{__class__: 1, __init__: 2}}}}",
        "!!python/object:{module}.Marks {{x: '{mark}'}}",
        "!!python/object/apply:{module}.Marks ['{mark}']",
        "!!python/module:antigravity",
    ],
)
def test_nothing_runs_from_text(text, tmp_path):
    mark = tmp_path / "mark"
    decode_exception(text.format(mark=str(mark), module=__name__))
    assert not mark.exists()


class A(Exception):
    pass


class Marks(Exception):
    """Would leave a mark if its constructor or one of its setters were called."""

    def __init__(self, mark):
        open(mark, "w").close()

    def __setstate__(self, state):
        open(state["x"], "w").close()

    def __setattr__(self, name, value):
        open(value, "w").close()


async def test_a_loaded_process_saves_what_it_was_loaded_from():
    """As in 0.26.1, whose users compare the two."""
    for ending in ("kill", "execute"):
        process = plumpy.Process()
        if ending == "kill":
            process.kill("enough")
        else:
            await process.step_until_terminated()
            process.future()
        bundle = plumpy.Bundle(process)
        assert plumpy.Bundle(bundle.unbundle()) == bundle


def test_a_future_stores_its_exception_itself_if_that_can_be_stored():
    future = SavableFuture(loop=asyncio.new_event_loop())
    error = ValueError("x")
    future.set_exception(error)
    future.get_loop().close()
    saved = future.save()
    assert saved["exception"] is error
    assert "exception_text" not in saved
