"""``harness broker``: a RabbitMQ for hand work, which stays until it is taken down."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.broker import choose, why_not
from harness.broker.address import Address, hide_password
from harness.broker.handshake import NotReady, shake_hands
from harness.broker.run import Run, lock
from harness.directories import cache_directory
from harness.errors import HarnessError

HELP = "start, show or stop a RabbitMQ for hand work; build its image"
_KINDS = ("docker", "local")
_PROVIDERS = ("auto", *_KINDS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    up = actions.add_parser("up", help="start one, which stays until 'down'; print its URLs")
    up.add_argument(
        "--provider", choices=_PROVIDERS, help="default: $HARNESS_BROKER as for pytest, else auto"
    )
    up.add_argument(
        "--image",
        default=os.environ.get("HARNESS_IMAGE"),
        help="image for Docker (default: $HARNESS_IMAGE, else the official one, or our own)",
    )
    status = actions.add_parser("status", help="say whether it is up, and where")
    for action in (up, status):
        action.add_argument("--json", action="store_true", help="print JSON")
    actions.add_parser("down", help="remove it with everything it started")
    actions.add_parser("build-image", help="build a small image from this machine's Debian sources")


def run(args: argparse.Namespace) -> int:
    if args.action == "build-image":
        return _build_image()
    with _state() as state:
        if args.action == "up":
            return _up(state, args.provider or _usual(), args.image, as_json=args.json)
        if args.action == "status":
            return _status(state, as_json=args.json)
        return _down(state)


def _usual() -> str:
    """Return the provider that tests are told to use.

    :raises HarnessError: if it is none that can be started
    """
    setting = os.environ.get("HARNESS_BROKER") or "auto"
    if setting not in _PROVIDERS:
        raise HarnessError(
            f"HARNESS_BROKER is {hide_password(setting)!r}, which cannot be started; "
            f"choose one: harness broker up --provider {'|'.join(_PROVIDERS)}"
        )
    return setting


@contextlib.contextmanager
def _state() -> Iterator[Path]:
    """Hold the file that tells which run the broker belongs to."""
    cache = cache_directory()
    with lock(cache / "broker-up.lock"):
        yield cache / "broker-up"


def _recorded(state: Path) -> tuple[Run, str, dict[str, Any]] | None:
    with contextlib.suppress(OSError):
        run = Run.at(Path(state.read_text()))
        for kind in _KINDS:
            record = run.shared(kind)
            if record is not None:
                return run, kind, record
    return None


def _up(state: Path, provider: str, image: str | None, *, as_json: bool) -> int:
    found = _recorded(state)
    if found is not None:
        _, kind, record = found
        with contextlib.suppress(NotReady):
            shake_hands(Address.parse(record["url"]))
            if provider not in ("auto", kind):
                raise HarnessError(
                    f"a {kind} broker is up already; take it down first: harness broker down"
                )
            _say("it was up already")
            return _show(kind, record, as_json=as_json)
        _say("the one that was up does not answer any more; it is replaced")
        _remove(*found)
    run = Run.new(owner=None)
    chosen = choose(provider, image=image, run=run, say=_say)
    if chosen is None:
        raise HarnessError(why_not())
    state.write_text(str(run.directory))
    try:
        broker = chosen.start()
    except BaseException:
        run.finish()
        state.unlink(missing_ok=True)
        raise
    made = run.shared(broker.name)
    assert made is not None
    return _show(broker.name, made, as_json=as_json)


def _status(state: Path, *, as_json: bool) -> int:
    found = _recorded(state)
    if found is None:
        print("null" if as_json else "no broker is up; start one: harness broker up")
        return 0
    _, kind, record = found
    try:
        shake_hands(Address.parse(record["url"]))
    except NotReady as error:
        _say(f"the {kind} broker does not answer ({error}); take it down: harness broker down")
        return 1
    return _show(kind, record, as_json=as_json)


def _down(state: Path) -> int:
    found = _recorded(state)
    if found is None:
        _say("no broker is up")
    else:
        _remove(*found)
        _say(f"the {found[1]} broker is gone")
    state.unlink(missing_ok=True)
    return 0


def _remove(run: Run, kind: str, record: dict[str, Any]) -> None:
    """Remove a broker, also one whose keeper did not survive (a restart of the machine)."""
    if kind == "docker":
        from harness.broker.docker import remove_container

        remove_container(record["container"])
    else:
        from harness.broker.local import sweep

        sweep(Path(run.scratch))
    run.finish()


def _show(kind: str, record: dict[str, Any], *, as_json: bool) -> int:
    url, management = record["url"], record["management"]
    option = f"{url}?management={management['url']}"
    if as_json:
        print(
            json.dumps(
                {
                    "provider": kind,
                    "amqp": url,
                    "management": management,
                    "summary": record["summary"],
                    "setting": option,
                }
            )
        )
        return 0
    print(f"{kind}: {record['summary']}")
    print(f"AMQP        {url}")
    print(
        f"management  {management['url']}  "
        f"(user {management['user']}, password {management['password']})"
    )
    print(f"use it      pytest --harness-broker='{option}'")
    print("stop it     harness broker down")
    return 0


def _build_image() -> int:
    from harness.broker.docker import engine
    from harness.broker.image import build

    with engine() as client:
        print(build(client, _say))
    return 0


def _say(text: str) -> None:
    print(f"harness broker: {text}", file=sys.stderr, flush=True)
