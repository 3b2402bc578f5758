"""Message bodies, encoded as kiwipy does it (YAML) but in C where that is to be had."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import yaml

# The representers and constructors of plumpy are registered when this is imported.
from plumpy import persistence  # noqa: F401

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
