"""The command ``plumpy``: start a worker, and see and control what workers do.

Exit codes: 0 all went as asked, 1 something did not, 2 it could not be tried.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import json
import logging
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import kiwipy

from plumpy import _sending, _thread_futures, process_comms
from plumpy._connecting import DEFAULT_QUEUE, UsageError, connected, without_password
from plumpy._ledger import Run
from plumpy.exceptions import PersistenceError
from plumpy.persistence import SqlitePersister

DEFAULT_BROKER = "amqp://guest:guest@127.0.0.1:5672/"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if sys.stdout is None:  # it was closed by who started this
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    try:
        return int(options.run(options))
    except UsageError as exc:
        print(f"plumpy: {exc}", file=sys.stderr)
        return 2
    except PersistenceError as exc:
        print(f"plumpy: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - nobody reads on
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="plumpy", description="Run processes in workers, and see and control them."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str, *parents: argparse.ArgumentParser) -> Any:
        sub = commands.add_parser(name, help=text, description=text, parents=parents)
        sub.set_defaults(run=run)
        return sub

    broker = argparse.ArgumentParser(add_help=False)
    broker.add_argument(
        "--broker",
        metavar="URL",
        default=os.environ.get("PLUMPY_BROKER", DEFAULT_BROKER),
        help="AMQP URL of RabbitMQ (or $PLUMPY_BROKER; default: %(default)s)",
    )
    persister = argparse.ArgumentParser(add_help=False)
    persister.add_argument(
        "--persister",
        metavar="URL",
        default=os.environ.get("PLUMPY_PERSISTER"),
        help="sqlite:///FILE or postgresql://USER@HOST/DATABASE (or $PLUMPY_PERSISTER)",
    )

    worker = command("worker", _worker, "Run processes from a task queue.", broker, persister)
    worker.epilog = (
        "Ctrl-C (SIGINT), SIGTERM or SIGHUP: takes no more tasks, lets the steps under way end, "
        "saves, and gives the processes to other workers. Again: does not wait for the steps. "
        "A third time: ends at once; other workers go on when the leases have ended."
    )
    worker.add_argument("--slots", type=int, default=10, help="steps at a time (%(default)s)")
    worker.add_argument("--queue", default=DEFAULT_QUEUE, help="task queue (%(default)s)")
    worker.add_argument(
        "--allow",
        action="append",
        metavar="PATTERN",
        help="classes that tasks may start, such as 'mypackage.*'; may be repeated (default: any)",
    )
    worker.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module with processes first; may be repeated",
    )
    worker.add_argument(
        "--lease",
        type=float,
        default=30.0,
        help="seconds after which a worker that does not report counts as dead (%(default)s)",
    )
    worker.add_argument(
        "--poll",
        type=float,
        default=1.0,
        help="seconds from one look for processes without a worker to the next (%(default)s)",
    )
    worker.add_argument(
        "--stop-limit",
        type=float,
        default=30.0,
        help="seconds that steps get to end after SIGTERM (%(default)s)",
    )
    worker.add_argument(
        "--heartbeat",
        type=int,
        default=60,
        help="seconds after which a silent connection to the broker counts as lost (%(default)s)",
    )
    worker.add_argument("--verbose", "-v", action="store_true", help="log more")

    listing = command("list", _list, "List processes, the latest first.", persister)
    listing.add_argument("--all", "-a", action="store_true", help="also those that have ended")
    listing.add_argument("--limit", "-n", type=int, default=50, help="at most (%(default)s)")
    listing.add_argument("--json", action="store_true", help="one JSON object per line")
    listing.add_argument("--watch", "-w", action="store_true", help="keep the list up to date")

    status = command("status", _status, "Show the status of processes.", broker, persister)
    status.add_argument("pid", nargs="+")
    status.add_argument("--json", action="store_true", help="one JSON object per line")
    for name, run, text in (
        ("pause", _pause, "Pause processes."),
        ("play", _play, "Let paused processes go on."),
        ("kill", _kill, "Kill processes."),
    ):
        control = command(name, run, text, broker)
        control.add_argument("pid", nargs="*")
        control.add_argument("--all", "-a", action="store_true", help="every process there is")
        control.add_argument("--timeout", type=float, default=30.0, help="seconds (%(default)s)")
        if name != "play":
            control.add_argument("--message", "-m", help="the reason")
        if name == "kill":
            control.add_argument("--force", action="store_true", help="also in mid-step")
    return parser


def open_persister(url: str | None, *, must_exist: bool = False) -> Any:
    """Return the persister for a URL.

    :param must_exist: do not create a file that is not there
    :raises UsageError: if there is none, or it cannot be opened
    """
    if not url:
        raise UsageError("which processes? Give --persister sqlite:///FILE (or $PLUMPY_PERSISTER)")
    scheme, _, rest = url.partition("://")
    shown = without_password(url)
    try:
        if scheme == "sqlite" and rest.startswith("/"):
            path = rest[1:]
            if path in ("", ":memory:"):
                raise UsageError(f"{url!r} names no file: expected sqlite:///FILE")
            directory = os.path.dirname(path)
            if directory and not os.path.isdir(directory):
                raise UsageError(
                    f"there is no directory {directory} for {shown}: correct the path, or make it: "
                    f"mkdir -p {shlex.quote(directory)}"
                )
            if must_exist and not os.path.exists(path):
                raise UsageError(f"there is no file {path}: no worker has used it yet")
            return SqlitePersister(path)
        if scheme in ("postgresql", "postgres"):
            from plumpy.postgres import PostgresPersister

            return PostgresPersister(url)
    except (PersistenceError, OSError, ValueError) as exc:
        raise UsageError(f"cannot open {shown}: {exc}") from None
    raise UsageError(
        f"unknown persister {shown!r}: expected sqlite:///FILE or postgresql://USER@HOST/DATABASE"
    )


@contextlib.contextmanager
def _interrupted_at_once() -> Iterator[None]:
    """End the program at once on Ctrl-C: an exception may be lost in a callback of what starts."""
    before = signal.signal(signal.SIGINT, lambda number, _: os._exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@_interrupted_at_once()
def _worker(options: argparse.Namespace) -> int:
    from plumpy.worker import Worker
    from plumpy.worker._foreground import run_until_signal

    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for label in ("lease", "poll", "stop_limit", "heartbeat"):
        if not 0 <= getattr(options, label) < float("inf"):
            name = label.replace("_", "-")
            raise UsageError(f"--{name} {getattr(options, label)} is no number of seconds")
    if not options.queue:
        raise UsageError("the task queue needs a name: --queue NAME")
    sys.path.insert(0, os.getcwd())
    for module in options.modules:
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as exc:
            raise UsageError(f"cannot import {module}: {type(exc).__name__}: {exc}") from None
    persister = open_persister(options.persister)
    with connected(options.broker, options.heartbeat, options.queue) as communicator:
        try:
            worker = Worker(
                communicator,
                persister,
                slots=options.slots,
                queue=options.queue,
                allow=options.allow or ("*",),
                lease=options.lease,
                poll=options.poll,
                stop_limit=options.stop_limit,
            )
        except ValueError as exc:
            raise UsageError(str(exc)) from None
        idle = run_until_signal(worker)
    if not idle:
        # Python would wait for a thread of a step for as long as that takes.
        logging.getLogger("plumpy.worker").warning("leaving a thread of a step behind")
        logging.shutdown()
        os._exit(0)
    return 0


def _row(run: Run) -> dict[str, Any]:
    return {
        "pid": run.name,
        "class": run.process_class,
        "state": run.state,
        "worker": run.worker,
        "created": run.created,
        "queue": run.queue,
    }


def _list(options: argparse.Namespace) -> int:
    ledger = open_persister(options.persister, must_exist=True).ledger()
    active = None if options.all else True
    if options.watch:
        return _watch(ledger, active, options.limit)
    runs = ledger.all(active=active, limit=options.limit)
    if options.json:
        for run in runs:
            print(json.dumps(_row(run)))
        return 0
    total = sum(ledger.counts(active=active).values())
    ended = 0 if options.all else _ended(ledger.counts())
    more = f" of {total}; --limit {total} lists them all" if len(runs) < total else ""
    _print_table(runs, more + (f"; {ended} that ended are listed with --all" if ended else ""))
    return 0


def _table(runs: Sequence[Run]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("pid", "class", "state", "age", "worker"):
        table.add_column(title, overflow="fold")
    now = time.time()
    for run in runs:
        table.add_row(
            run.name,
            run.process_class.rpartition(":")[2],
            run.state,
            _age(now - run.created),
            run.worker or ("-" if run.active else ""),
        )
    return table


def _ended(counts: dict[str, int]) -> int:
    return sum(counts.get(state, 0) for state in ("finished", "excepted", "killed"))


def _print_table(runs: Sequence[Run], more: str) -> None:
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(_table(runs))
    console.print(f"{len(runs)} {'process' if len(runs) == 1 else 'processes'}{more}")


def _watch(ledger: Any, active: bool | None, limit: int) -> int:
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    progress = Progress(
        TextColumn("ended"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
    )
    bar = progress.add_task("")
    with Live(auto_refresh=False) as live:
        while True:
            counts: dict[str, int] = ledger.counts()
            text = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
            progress.update(
                bar, completed=_ended(counts), total=sum(counts.values()), description=text
            )
            live.update(
                Group(_table(ledger.all(active=active, limit=limit)), progress), refresh=True
            )
            time.sleep(0.5)


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _status(options: argparse.Namespace) -> int:
    ledger = None
    if options.persister:
        ledger = open_persister(options.persister, must_exist=True).ledger()
    failed = 0
    with connected(options.broker) as communicator:
        controller = process_comms.RemoteProcessThreadController(communicator)
        for pid in options.pid:
            row: dict[str, Any] = {"pid": pid}
            runs = ledger.find_by_name(pid) if ledger is not None else []
            for run in runs:
                row.update(_row(run))
            try:
                answer = _thread_futures.flatten(controller.get_status(pid)).result(5.0)
                row.update(answer)
                row["state"] = str(row.get("state")).rpartition(".")[2].lower()
            except Exception as exc:
                row["answer"] = _why(exc)
                failed += not runs
            if options.json:
                print(json.dumps(row, default=str))
            else:
                created = row.pop("ctime", None) or row.get("created")
                if created is not None:
                    moment = datetime.datetime.fromtimestamp(created).astimezone()
                    row["created"] = moment.isoformat(" ", "seconds")
                print("\n".join(f"{key:>15}: {value}" for key, value in row.items()) + "\n")
    return 1 if failed else 0


def _why(exc: BaseException) -> str:
    if isinstance(exc, kiwipy.UnroutableError):
        return "no worker runs it now"
    if isinstance(exc, kiwipy.TimeoutError):
        return "no answer in time"
    return str(exc) or type(exc).__name__


def _pause(options: argparse.Namespace) -> int:
    return _control(options, "pause", process_comms.MessageBuilder.pause(options.message))


def _play(options: argparse.Namespace) -> int:
    return _control(options, "play", process_comms.MessageBuilder.play())


def _kill(options: argparse.Namespace) -> int:
    message = process_comms.MessageBuilder.kill(options.message, options.force)
    return _control(options, "kill", message)


def _control(options: argparse.Namespace, intent: str, message: dict[str, Any]) -> int:
    if bool(options.pid) == options.all:
        raise UsageError(f"which processes? Give pids, or --all: plumpy {intent} PID ...")
    failed = 0
    with connected(options.broker) as communicator:
        if options.all:
            body = None if intent == "play" else message
            _sending.broadcast(communicator, body, subject=intent)
            print(f"told every process: {intent}")
            return 0
        for pid in options.pid:
            try:
                answer = _sending.call(communicator, pid, message)
                done = _thread_futures.flatten(answer).result(options.timeout)
                print(f"{pid}: {intent}: {'done' if done else 'not possible in its state'}")
                failed += not done
            except Exception as exc:
                print(f"{pid}: {intent}: {_why(exc)}")
                failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
