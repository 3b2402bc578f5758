"""Message bodies, encoded as kiwipy does it (YAML) but in C where that is to be had."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import yaml

# Importing this registers the representers and constructors of plumpy.
from plumpy.persistence._bundle import uuid_constructor

try:
    from kiwipy.rmq import defaults
except ImportError:  # kiwipy without its RabbitMQ part
    defaults = None

_LOGGER = logging.getLogger(__name__)

#: The YAML of senders, which say the same several times; and how many are kept.
_scalars: dict[Any, bytes] = {}
_REMEMBERED = 10_000

_Dumper: Any
_Loader: Any
if yaml.__with_libyaml__:

    class _Dumper(yaml.CDumper):  # type: ignore[no-redef]
        # Shared on purpose: what the program registers on the stock classes holds here too.
        yaml_representers = yaml.Dumper.yaml_representers
        yaml_multi_representers = yaml.Dumper.yaml_multi_representers

    class _Loader(yaml.CFullLoader):  # type: ignore[no-redef]
        yaml_constructors = yaml.FullLoader.yaml_constructors
        yaml_multi_constructors = yaml.FullLoader.yaml_multi_constructors

else:
    _Dumper, _Loader = yaml.Dumper, yaml.FullLoader


def encode(data: Any) -> bytes:
    """Return the YAML of ``data``; the bytes are those of kiwipy's default encoder."""
    encoded: bytes = yaml.dump(data, Dumper=_Dumper, encoding="utf-8")
    return encoded


def decode(body: bytes) -> Any:
    """Return the data of a YAML document; accepts what kiwipy's default decoder does."""
    return yaml.load(body, Loader=_Loader)


def faster_encoder(encoder: Callable[[Any], Any]) -> Callable[[Any], bytes]:
    """Return :func:`encode` in the place of kiwipy's default, and any other encoder as it is."""
    if defaults is not None and encoder is defaults.ENCODER:
        return encode

    def encode_bytes(data: Any) -> bytes:
        body = encoder(data)
        return body.encode("utf-8") if isinstance(body, str) else bytes(body)

    return encode_bytes


def faster_decoder(decoder: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return :func:`decode` in the place of kiwipy's default, and any other decoder as it is."""
    return decode if defaults is not None and decoder is defaults.DECODER else decoder


def state_broadcast(
    sender: Any, subject: str, encoder: Callable[[Any], bytes] = encode
) -> bytes | None:
    """Return the body of a broadcast without a body; None, and a log line, if it has no form.

    :param sender: who sends it
    :param subject: a subject of the runtime, which needs no quoting
    :param encoder: the encoder of the communicator
    """
    try:
        if encoder is encode:
            scalar = _scalars.get((type(sender), sender)) or _remember(sender)
            if scalar:
                return b"body: null\ncorrelation_id: null\nsender: %b\nsubject: %b\n" % (
                    scalar,
                    subject.encode("ascii"),
                )
        return encoder({"body": None, "sender": sender, "subject": subject, "correlation_id": None})
    except Exception:
        _LOGGER.exception("cannot encode the broadcast %s of process %s", subject, sender)
        return None


def _remember(sender: Any) -> bytes:
    """Return the YAML of a sender if it fits on one line, and keep it; else nothing."""
    scalar = encode([sender]).rstrip()
    if len(_scalars) >= _REMEMBERED:
        _scalars.clear()
    _scalars[type(sender), sender] = scalar = b"" if b"\n" in scalar else scalar.removeprefix(b"- ")
    return scalar


#: The largest body of a message that is read, in bytes, and how deep what is in it may be nested.
LARGEST_BODY = 16 * 1024 * 1024
DEEPEST_NESTING = 100
#: How many values a body may have, aliases written out.
MOST_VALUES = 500_000
#: How many digits an integer may have; what it takes to read one grows with their square.
MOST_DIGITS = 4300


class _SafeLoader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore
    """Plain values, and those that the runtime itself puts into messages."""


def _construct_tuple(loader: Any, node: Any) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))


def _construct_complex(loader: Any, node: Any) -> complex:
    return complex(loader.construct_scalar(node))


def _construct_int(loader: Any, node: Any) -> int:
    if len(node.value) > MOST_DIGITS:
        raise ValueError(f"an integer has more than {MOST_DIGITS} digits")
    value: int = loader.construct_yaml_int(node)
    return value


_SafeLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_SafeLoader.add_constructor("!uuid", uuid_constructor)
_SafeLoader.add_constructor("tag:yaml.org,2002:python/tuple", _construct_tuple)
_SafeLoader.add_constructor("tag:yaml.org,2002:python/complex", _construct_complex)


def decode_safely(body: bytes) -> Any:
    """Return the data of a YAML document from anyone: plain values, tuples and UUIDs only.

    :raises ValueError: if it is too large, nested too deep, or anything else
    """
    if len(body) > LARGEST_BODY:
        raise ValueError(f"the body has {len(body)} bytes, more than {LARGEST_BODY}")
    try:
        # So short a body without aliases is as deep as may be at most.
        if len(body) > 2 * DEEPEST_NESTING or b"*" in body:
            _check_size(body)
        return yaml.load(body, Loader=_SafeLoader)
    except yaml.YAMLError as exc:
        raise ValueError(f"the body is no plain YAML: {' '.join(str(exc).split())[:200]}") from None
    except ValueError as exc:
        raise ValueError(f"the body cannot be read: {' '.join(str(exc).split())[:200]}") from None
    except Exception as exc:
        # A constructor met a value that it did not expect.
        raise ValueError(f"the body cannot be read: {type(exc).__name__}") from None


def _check_size(body: bytes) -> None:
    """Refuse what is small to send and large to read: deep nesting, aliases of aliases."""
    sizes: dict[str | None, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    count = 0
    for event in yaml.parse(body, Loader=_SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise ValueError("the body has a value that contains itself")
            count += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.NodeEvent):
            count += 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, count))
                if len(open_nodes) > DEEPEST_NESTING:
                    raise ValueError(f"the body is nested deeper than {DEEPEST_NESTING} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = count - before + 1
        if count > MOST_VALUES:
            raise ValueError(f"the body has more than {MOST_VALUES} values")


def careful_decoder(decoder: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return :func:`decode_safely` in the place of kiwipy's default, and any other as it is.

    For messages that nobody asked for. Whoever gives a communicator a decoder of their own decides
    what it reads.
    """
    return decode_safely if defaults is not None and decoder is defaults.DECODER else decoder
