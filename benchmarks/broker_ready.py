"""Time from nothing to a broker that answers AMQP and makes vhosts, per provider.

    python benchmarks/broker_ready.py [--rounds 5] [docker] [local]

What is fetched or built once (packages, image) is fetched before the clock starts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence

from harness.broker import Provider, choose
from harness.errors import HarnessError


def seconds_to_ready(provider: Provider) -> tuple[float, float, float, str]:
    """Return the seconds to ready, per vhost made and dropped, and to stop; and what ran."""
    begin = time.perf_counter()
    broker = provider.start_private()
    ready = time.perf_counter() - begin
    begin = time.perf_counter()
    for _ in range(10):
        broker.drop_vhost(broker.new_vhost())
    vhost = (time.perf_counter() - begin) / 10
    begin = time.perf_counter()
    broker.stop()
    return ready, vhost, time.perf_counter() - begin, broker.describe().partition(",")[0]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("providers", nargs="*", default=["docker", "local"])
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    args = parser.parse_args(arguments)
    print("| provider | broker | ready, median (range) | vhost made and dropped | stopped |")
    print("| --- | --- | --- | --- | --- |")
    for name in args.providers:
        try:
            provider = choose(name)
            assert provider is not None
            seconds_to_ready(provider)
        except HarnessError as error:
            print(f"| {name} | not here: {error} | | | |")
            continue
        rows = [seconds_to_ready(provider) for _ in range(args.rounds)]
        ready, vhost, stop = ([row[column] for row in rows] for column in range(3))
        print(
            f"| {name} | {rows[0][3]} | {statistics.median(ready):.1f} s "
            f"({min(ready):.1f} to {max(ready):.1f}) | {statistics.median(vhost) * 1000:.0f} ms "
            f"| {statistics.median(stop):.1f} s |",
            flush=True,
        )
    print(f"\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
