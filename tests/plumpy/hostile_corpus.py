"""Bodies and headers that nobody in their right mind sends; for calls, broadcasts and tasks alike.

A body that calls :func:`executed` when it is read has been executed.
"""

from __future__ import annotations

from typing import Any

import yaml

#: What bodies managed to call.
calls: list[Any] = []


def executed(*args: Any, **kwargs: Any) -> str:
    """Note a call."""
    calls.append((args, kwargs))
    return "executed"


class Executed:
    """Note that one was made."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        calls.append((args, kwargs))

    def __setstate__(self, state: Any) -> None:
        calls.append(state)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        calls.append((args, kwargs))


_HERE = __name__


def _laughs(levels: int, width: int) -> bytes:
    lines = ["a0: &a0 [lol]"]
    for level in range(1, levels):
        parts = ", ".join([f"*a{level - 1}"] * width)
        lines.append(f"a{level}: &a{level} [{parts}]")
    return "\n".join(lines).encode()


#: Bodies that are no message at all, or must not be read.
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "one zero byte": b"\0",
    "every byte": bytes(range(256)),
    "broken utf-8": b"\xff\xfe\xfa\xc3\x28",
    "utf-16": "{intent: dance}".encode("utf-16"),
    "utf-32": "{intent: dance}".encode("utf-32"),
    "utf-7": b"+AHs-intent: kill}",
    "byte order mark": b"\xef\xbb\xbf\xef\xbb\xbfintent: dance",
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcb\xcc+I\xcd+\xb1R\xc8\xce\xcc\xc9\x01\x00",
    "pickle": b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93"
    b"\x94\x8c\x01:\x94\x85\x94R\x94.",
    "json cut short": b'{"intent": "kil',
    "yaml cut short": b"intent: [kill",
    "two documents": b"--- 1\n--- 2\n",
    "a directive": b"%YAML 9.9\n--- x",
    "a tab": b"a:\n\t- b",
    "null": b"null",
    "true": b"true",
    "a number": b"5",
    "not a number": b".nan",
    "infinity": b"-.inf",
    "a word": b"kill",
    "a list": b"[kill]",
    "an empty list": b"[]",
    "an empty mapping": b"{}",
    "a pair": b"[{}, {}]",
    "a set": b"!!set {kill}",
    "bytes": b"!!binary aGVsbG8=",
    "broken bytes": b"!!binary '***'",
    "a date": b"2020-01-01",
    "no date": b"2020-99-99",
    "a merge": b"a: &a {x: 1}\nb: {<<: *a}",
    "a merge with a word": b"{<<: word}",
    "a list as a key": b"? [a]\n: b",
    "a mapping as a key": b"? {a: b}\n: c",
    "a key given twice": b"intent: dance\nintent: sing\n",
    "an alias of nothing": b"*nothing",
    "a list in itself": b"&a [*a]",
    "a mapping in itself": b"&a {a: *a}",
    "billion laughs": _laughs(12, 12),
    "laughs in a message": b"intent: status\nmessage:\n  "
    + _laughs(10, 10).replace(b"\n", b"\n  "),
    "merged laughs": b"a: &a {x: 1}\n"
    + b"".join(b"b%d: &a {<<: [%s]}\n" % (n, b", ".join([b"*a"] * 50)) for n in range(9)),
    "1,000 lists in each other": b"[" * 1000 + b"]" * 1000,
    "100,000 lists in each other": b"[" * 100_000 + b"]" * 100_000,
    "1,000,000 lists that never end": b"[" * 1_000_000,
    "50,000 dashes": b"- " * 50_000,
    "10,000 mappings in each other": b"{a: " * 10_000 + b"}" * 10_000,
    "10,000 mappings as keys": b"? " * 10_000,
    "an integer of 100,000 digits": b"9" * 100_000,
    "an integer in base 60": b"1" + b":1" * 100_000,
    "a fraction of 100,000 digits": b"0." + b"3" * 100_000,
    "a fraction in base 60": b"1" + b":1" * 100_000 + b".5",
    "a hexadecimal integer": b"0x" + b"f" * 100_000,
    "a word of 1 MB": b"x" * 1_000_000,
    "600,000 values": b"[" + b"1," * 600_000 + b"]",
    "a name": f"!!python/name:{_HERE}.executed ''".encode(),
    "a module": b"!!python/module:os ''",
    "a call": f"!!python/object/apply:{_HERE}.executed [1]".encode(),
    "a call in a message": f"{{intent: !!python/object/apply:{_HERE}.executed [kill]}}".encode(),
    "a call of the system": b"!!python/object/apply:os.system ['exit 3']",
    "a call by way of new": f"!!python/object/new:{_HERE}.Executed [1]".encode(),
    "an object": f"!!python/object:{_HERE}.Executed {{a: 1}}".encode(),
    "an extended tuple": b"!!python/object/new:tuple [[1]]",
    "state for a type": f"!!python/object/new:type\nargs: [a, !!python/tuple [], {{b: "
    f"!!python/name:{_HERE}.executed }}]\nlistitems: x".encode(),
    "a tag of nobody": b"!nobody {a: 1}",
    "no uuid": b"!uuid {a: 1}",
    "a bad uuid": b"!uuid zzz",
    "no complex number": b"!!python/complex [1]",
    "a bundle": b"!plumpy:Bundle {'!!meta': {class_name: 'os:system'}}",
    "a bundle in itself": b"&a !plumpy:Bundle {a: *a}",
}

_NAME = f"{_HERE}:Executed"
#: Well-formed values that mean nothing to a process, a worker or a launcher.
VALUES: dict[str, Any] = {
    "an unknown intent": {"intent": "dance"},
    "an intent that is none": {"intent": None},
    "an intent in a list": {"intent": ["kill"]},
    "an intent in a mapping": {"intent": {"kill": "kill"}},
    "an intent as bytes": {"intent": b"kill"},
    "a task as a call": {"task": "launch", "args": {}},
    "no task at all": {"args": {}},
    "a task that is none": {"task": None, "args": {}},
    "a task in a list": {"task": ["launch"], "args": {}},
    "arguments in a list": {"task": "launch", "args": [1, 2]},
    "arguments that are none": {"task": "launch", "args": None},
    "arguments of no method": {"task": "launch", "args": {"self": 1, "communicator": 2}},
    "a class that is a number": {"task": "launch", "args": {"process_class": 5}},
    "a class that is a list": {"task": "launch", "args": {"process_class": ["os:system"]}},
    "a function for a class": {
        "task": "launch",
        "args": {"process_class": "os:system", "init_args": ["exit 3"]},
    },
    "another class": {"task": "launch", "args": {"process_class": _NAME, "init_args": [1]}},
    "a class to be created": {"task": "create", "args": {"process_class": _NAME}},
    "a class of dots": {"task": "launch", "args": {"process_class": "....:...."}},
    "a class of slashes": {"task": "launch", "args": {"process_class": "../../etc/passwd:x"}},
    "a class with a zero byte": {"task": "launch", "args": {"process_class": "a\0b:c"}},
    "arguments that are a word": {
        "task": "launch",
        "args": {"process_class": "plumpy:Process", "init_args": "abc"},
    },
    "names that are numbers": {
        "task": "launch",
        "args": {"process_class": "plumpy:Process", "init_kwargs": {1: 2}},
    },
    "a loop from outside": {
        "task": "launch",
        "args": {"process_class": "plumpy:Process", "init_kwargs": {"loop": 5}},
    },
    "a communicator from outside": {
        "task": "launch",
        "args": {"process_class": "plumpy:Process", "init_kwargs": {"communicator": 5}},
    },
    "a logger from outside": {
        "task": "launch",
        "args": {"process_class": "plumpy:Process", "init_kwargs": {"logger": "x"}},
    },
    "nobody to continue": {"task": "continue", "args": {"pid": "nobody"}},
    "continue a list": {"task": "continue", "args": {"pid": [1, 2]}},
    "continue a mapping": {"task": "continue", "args": {"pid": {}}},
    "continue nothing": {"task": "continue", "args": {"pid": None}},
    "continue elsewhere": {"task": "continue", "args": {"pid": "../../x", "tag": "../y"}},
    "continue a number": {"task": "continue", "args": {"pid": 10**30, "tag": ["t"]}},
    "an unknown task": {"task": "explode", "args": {}},
    "a task of 1 MB": {"task": "x" * 1_000_000, "args": {}},
}


def call_bodies() -> dict[str, bytes]:
    """Return what to send to a process."""
    return BODIES | {name: _dump(value) for name, value in VALUES.items()}


def task_bodies() -> dict[str, bytes]:
    """Return what to send to a queue of tasks: as it is, and as kiwipy packs a task."""
    packed = {f"{name}, as a task": _dump([value, False]) for name, value in VALUES.items()}
    odd = {
        f"an answer wanted: {value!r}": _dump([{"task": "explode"}, value])
        for value in (None, [], {}, "no", 2.5)
    }
    return BODIES | packed | odd


def broadcast_bodies() -> dict[str, bytes]:
    """Return what to broadcast: as it is, and as kiwipy packs a broadcast."""
    packed = {}
    for name, value in VALUES.items():
        message = {"body": value, "sender": value, "subject": "other", "correlation_id": None}
        packed[f"{name}, as a broadcast"] = _dump(message)
        message = {"body": None, "sender": None, "subject": value, "correlation_id": value}
        packed[f"{name}, as a subject"] = _dump(message)
    odd = {
        "a subject in other clothes": b"body: null\nsubject: state_changed.a.finished",
        "only a subject": b"\nsubject: kil",
        "a subject of broken utf-8": b"body: null\nsubject: state_changed.\xff\xfe\n",
        "a part of a broadcast": _dump({"subject": "kill"}),
        "a subject that is empty": _dump(
            {"body": None, "sender": None, "subject": "", "correlation_id": None}
        ),
    }
    return BODIES | packed | odd


def _dump(value: Any) -> bytes:
    return yaml.safe_dump(value).encode()


#: Properties that a message may have, as arguments of :class:`aio_pika.Message`.
PROPERTIES: dict[str, dict[str, Any]] = {
    "nothing said": {},
    "another type": {"content_type": "application/x-python-pickle", "type": "task"},
    "an encoding": {"content_encoding": "gzip", "content_type": "text/plain; charset=utf-16"},
    "odd headers": {"headers": {"x-death": [{"count": 10**9}], "": None, "é" * 30: {"a": [1.5]}}},
    "a long type": {"type": "x" * 255, "app_id": "y" * 255},
    "an answer to nowhere": {"reply_to": "no-such-queue", "correlation_id": "c"},
    "a long answer address": {"reply_to": "z" * 255, "correlation_id": "c" * 255},
    "no correlation id": {"reply_to": "no-such-queue"},
    "expired priority": {"priority": 255, "expiration": 60, "delivery_mode": 2},
}
