"""``harness matrix`` as a person and a script use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.matrix.interpreters import this_interpreter
from harness.report.model import Report

BAD = "raise AssertionError('it is bad')"


@pytest.fixture
def here(harness_cache: Path) -> list[str]:
    return ["--python", this_interpreter().version]


def test_grid_is_printed_and_as_expected(demo: Any, here: list[str], capsys: Any) -> None:
    demo.history(v1_0="pass", v1_1=BAD, v1_2="return 2")
    assert main(["matrix", str(demo.scenario("demo==1.1")), *here]) == 0
    out = capsys.readouterr().out
    assert "D1  a demo" in out
    assert [line.split() for line in out.splitlines() if line.startswith("  demo")] == [
        ["demo", "1.0", "."],
        ["demo", "1.1", "B"],
        ["demo", "1.2", "."],
    ]
    assert 'D1: present: "demo>=1.1,<1.2"' in out
    assert "\x1b" not in out, "no colour when piped"


def test_unexpected_cell_is_named_with_its_replay(demo: Any, here: list[str], capsys: Any) -> None:
    demo.history(v1_0=BAD)
    file = demo.scenario()
    assert main(["matrix", str(file), *here]) == 1
    out = capsys.readouterr().out
    version = this_interpreter().version
    assert f"unexpected: D1 regression with demo 1.0, Python {version}: bug: AssertionError" in out
    word = f"{Path(file).resolve()}::test_demo"
    assert f"replay: harness matrix {word} --python {version} --release demo==1.0" in out


def test_what_could_not_run_is_said_and_the_rest_goes_on(
    demo: Any, here: list[str], capsys: Any
) -> None:
    demo.history(v1_0="pass", v1_1=BAD)
    words = ["matrix", str(demo.scenario("demo>=1.1")), *here, "--python", "/nowhere/python"]
    assert main(words) == 2
    told = capsys.readouterr()
    assert "2 runs of 1 scenario" in told.out
    assert "could not run: /nowhere/python: does not start: No such file" in told.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.py"], "nothing.py does not exist"),
        (["--python", "3.99"], "3.99: no such Python on this machine"),
        (["--release", "latest!"], "--release 'latest!' means nothing"),
        (["--release", "other==1"], "--release names other"),
        (["--shard", "9/8"], "--shard '9/8' is no part"),
    ],
)
def test_wrong_word_is_one_clear_line(
    demo: Any, capsys: Any, words: list[str], message: str
) -> None:
    demo.history(v1_0="pass")
    given = [] if words[0].endswith(".py") else [str(demo.scenario())]
    assert main(["matrix", *given, *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert message in told.err
    assert len(told.err.splitlines()) == 1


@pytest.mark.parametrize("word", ["-j0", "--repeat=0", "-jmany"])
def test_number_that_cannot_be_is_refused(capsys: Any, word: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["matrix", word])
    assert stop.value.code == 2


def test_json_is_the_report(demo: Any, here: list[str], capsys: Any, tmp_path: Path) -> None:
    demo.history(v1_0="pass", v1_1=BAD)
    file = tmp_path / "report.json"
    words = ["matrix", str(demo.scenario("demo>=1.1")), *here, "--json", "--output", str(file)]
    assert main(words) == 0
    report = Report.from_json(json.loads(capsys.readouterr().out))
    assert [(one.release, one.verdict.value) for one in report.results] == [
        ("1.0", "healthy"),
        ("1.1", "reproduced"),
    ]
    assert Report.load(file).results == report.results


def test_shards_are_the_whole(demo: Any, here: list[str], tmp_path: Path) -> None:
    demo.history(v1_0="pass", v1_1="return 1", v1_2="return 2")
    found = []
    for part in ("1/2", "2/2"):
        file = tmp_path / "part.json"
        words = ["matrix", str(demo.scenario("demo>5")), *here, "--shard", part]
        main([*words, "--output", str(file)])
        found += [one.release for one in Report.load(file).results]
    assert sorted(map(str, found)) == ["1.0", "1.1", "1.2"]


def test_differing_runs_are_listed_as_inconclusive(
    demo: Any, here: list[str], capsys: Any, tmp_path: Path
) -> None:
    demo.release("1.0", f"open({str(tmp_path / 'mark')!r}, 'x').close()")
    assert main(["matrix", str(demo.scenario("demo>=1")), *here, "--repeat", "3"]) == 1
    out = capsys.readouterr().out
    assert "inconclusive: D1" in out
    assert "outcomes differ: 2 bug, 1 healthy in 3 runs" in out


def test_list_runs_nothing(demo: Any, here: list[str], capsys: Any) -> None:
    demo.history(v1_0=BAD, v1_2=BAD, v1_10=BAD)
    assert main(["matrix", str(demo.scenario()), *here, "--list"]) == 0
    out = capsys.readouterr().out
    assert f"Python {this_interpreter().version}  {this_interpreter().path}" in out
    assert "demo: 3 releases: 1.0, 1.2, 1.10" in out


def test_file_that_cannot_be_imported_does_not_stop_the_library(
    demo: Any, here: list[str], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo.history(v1_0="pass")
    library = demo.directory / "scenarios"
    library.mkdir()
    demo.scenario("demo>5").rename(library / "test_good.py")
    (library / "test_bad.py").write_text("import nothing_of_that_name\n")
    monkeypatch.chdir(demo.directory)
    assert main(["matrix", *here]) == 2
    told = capsys.readouterr()
    assert "D1  a demo" in told.out
    assert "test_bad.py cannot be imported (ModuleNotFoundError" in told.err


def test_crowded_project_is_tried_where_the_record_speaks_of_it(
    demo: Any, here: list[str], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.matrix.cells.MANY", 5)
    for number in range(8):
        demo.release(f"1.{number}", "pass" if number < 3 else BAD)
    file = str(demo.scenario("demo>=1.3"))
    assert main(["matrix", file, *here, "--json"]) == 0
    told = capsys.readouterr()
    results = json.loads(told.out)["results"]
    assert [one["release"] for one in results] == ["1.2", "1.3", "1.7"]
    assert "demo: of 8 releases only the newest" in told.err
    main(["matrix", file, *here, "--json", "--release", "all"])
    assert len(json.loads(capsys.readouterr().out)["results"]) == 8


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_keeps_and_writes_what_is_done_and_leaves_no_process(
    demo: Any, here: list[str], tmp_path: Path, number: int
) -> None:
    """Ctrl-C, or a time limit of CI, in the middle; the same command then runs only the rest."""
    output = tmp_path / "report.json"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    demo.release("1.0", "pass")
    demo.release("1.1", f"open({str(fifo)!r}, 'w').write(str(os.getpid())); time.sleep(3600)")
    words = ["matrix", str(demo.scenario("demo==1.1")), *here, "--output", str(output)]
    assert main([*words, "--release", "1.0"]) == 0
    command = [sys.executable, "-m", "harness", *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path.cwd()
    ) as process:
        child = int(fifo.read_text())
        process.send_signal(number)
        printed, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert told == "harness matrix: interrupted; what is done is kept\n"
    assert printed == "1 run of 1 scenario: 1 healthy\n"
    report = Report.load(output)
    assert [(one.release, one.verdict.value) for one in report.results] == [("1.0", "healthy")]
    assert report.environment["interrupted"] == "yes, 1 of 2 cells are known"
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_broken_interpreter_given_by_path_is_left_out(
    demo: Any, here: list[str], capsys: Any, tmp_path: Path
) -> None:
    broken = tmp_path / "python3.9"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    demo.history(v1_0="pass")
    assert main(["matrix", str(demo.scenario("demo>5")), *here, "--python", str(broken)]) == 2
    assert f"could not run: {broken}: does not start (status 3)" in capsys.readouterr().err
