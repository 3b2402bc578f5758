"""harness coverage: which lines of a release the scenarios execute."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main

SCENARIO = """
from harness.scenario import scenario


@scenario(id="cov", title="t", source="s", present=["covered-lib<2"])
async def test_asks() -> None:
    import covered_lib

    assert covered_lib.answer({asked}) == 42
"""
LIBRARY = "def answer(kind):\n    if kind == 'right':\n        return 42\n    return 41\n"


@pytest.fixture
def scenario_file(wheels: Any, tmp_path: Path) -> Path:
    wheels.add("covered-lib", "1.0", {"covered_lib.py": LIBRARY})
    path = tmp_path / "family" / "test_asks.py"
    path.parent.mkdir()
    path.write_text(SCENARIO.format(asked="'right'"))
    return path


def ask(scenario_file: Path, *more: str) -> int:
    page = str(scenario_file.parent / "page")
    release = ["--release", "covered-lib==1.0", "--python", sys.executable]
    return main(["coverage", str(scenario_file), *release, "--output", page, *more])


def test_the_page_shows_what_ran_and_what_did_not(
    scenario_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(scenario_file) == 0
    assert capsys.readouterr().out.startswith("75.0 % of the lines of covered-lib 1.0: ")
    (page,) = (scenario_file.parent / "page").glob("*covered_lib*.html")
    assert 'return</span> <span class="num">41' in page.read_text()


def test_a_run_of_pytest_counts_too(
    scenario_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "covered_lib.py").write_text(LIBRARY)
    (site / "use.py").write_text("import covered_lib\ncovered_lib.answer('wrong')\n")
    run = [sys.executable, "-m", "coverage", "run", "--data-file=other", "use.py"]
    subprocess.run(run, cwd=site, check=True)
    assert ask(scenario_file, "--combine", str(site / "other")) == 0
    assert capsys.readouterr().out.startswith("100.0 %")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "--release must name one release"),
        (["--release", "unknown-lib==1.0"], "no scenario is about unknown-lib"),
        (["--release", "covered-lib==9.9"], "covered-lib"),
        (["--release", "covered-lib==1.0", "--combine", "no-such-file"], "no-such-file"),
    ],
)
def test_what_cannot_be_done_is_one_clear_message(
    scenario_file: Path, words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = str(scenario_file.parent / "page")
    words = ["--python", sys.executable, "--output", page, *words]
    assert main(["coverage", str(scenario_file), *words]) == 2
    told = capsys.readouterr().err
    assert named in told
    assert "Traceback" not in told
