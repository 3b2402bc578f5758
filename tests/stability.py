"""Run the scenarios many times, in random order and with one core kept busy, and compare verdicts.

    python tests/stability.py                      # 20 times, pytest scenarios -n 2
    python tests/stability.py --times 3 -m threads
    python tests/stability.py --seed 7 --times 1   # one order again

What it does not know it hands to pytest. Exit status: 0 the same verdicts each time, 1 not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

SEED = "HARNESS_STABILITY_SEED"
#: Scenario and release.
Place = tuple[str, str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Shuffle the items, the same in every worker: this file is a plugin of the runs it starts."""
    if seed := os.environ.get(SEED):
        random.Random(int(seed)).shuffle(items)


@contextlib.contextmanager
def busy_core() -> Iterator[None]:
    """Keep one core busy, for as long as this process lives."""
    burn = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
    burning = subprocess.Popen([sys.executable, "-c", burn])
    try:
        yield
    finally:
        burning.kill()
        burning.wait()


def run(seed: int, options: list[str]) -> dict[Place, tuple[str, str]]:
    """Run the scenarios once; return the verdict of each in each release, and what it showed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "scenarios", "-q", "-p", "tests.stability"]
        command += ["-n", "2", "-p", "no:cacheprovider", f"--harness-report={folder}", *options]
        environment = {**os.environ, SEED: str(seed)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        report = Path(folder) / "report.json"
        if not report.exists():
            raise SystemExit(f"seed {seed}: pytest wrote no report:\n{done.stdout}{done.stderr}")
        results = json.loads(report.read_text(encoding="utf-8"))["results"]
    return {
        (one["scenario"], f"{one.get('library')} {one.get('release')}"): (
            f"{one['verdict']} ({one['observation']['outcome']})",
            one["observation"]["message"],
        )
        for one in results
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=20, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the first order")
    arguments, options = parser.parse_known_args()
    seen: dict[Place, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    showed: dict[tuple[Place, str], str] = {}
    with busy_core():
        for seed in range(arguments.seed, arguments.seed + arguments.times):
            for place, (verdict, message) in run(seed, options).items():
                seen[place][verdict].append(seed)
                showed.setdefault((place, verdict), message)
            print(f"seed {seed}: {len(seen)} scenarios and releases", file=sys.stderr, flush=True)
    differ = {
        place: verdicts
        for place, verdicts in seen.items()
        if len(verdicts) > 1 or sum(map(len, verdicts.values())) != arguments.times
    }
    failed = {
        place: verdicts
        for place, verdicts in seen.items()
        if any(word.startswith(("regression", "not-reproduced")) for word in verdicts)
    }
    for place, verdicts in {**differ, **failed}.items():
        print("{} in {}:".format(*place))
        for verdict, seeds in verdicts.items():
            print(f"  {verdict} with seed {seeds}: {showed[place, verdict]}")
    print(f"{len(seen)} scenarios and releases, {arguments.times} times: {len(differ)} differ")
    return 1 if differ or failed else 0


if __name__ == "__main__":
    sys.exit(main())
