"""The examples of the documentation run, and print what the pages say they print.

The convention: the ``python`` blocks of a page are one program, in their order. A ``text`` block
that follows one is exactly what that block prints. A block below a comment ``% not run: REASON`` is
left out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.check import check

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
#: Pages whose blocks are files of their own, or need the scenarios or results: not programs.
ELSEWHERE = {"check.md", "tutorial.md", "write-a-scenario.md", "export.md", "report.md"}
PAGES = sorted(
    path for path in (DOCS / "plumpy").glob("*.md") if "```python" in path.read_text()
) + sorted(
    path
    for path in DOCS.glob("*.md")
    if "```python" in path.read_text() and path.name not in ELSEWHERE
)
_FENCE = re.compile(r"^```(\w*)$")
_MARK = "=== end of the block at line "


@dataclass
class Block:
    language: str
    line: int
    text: str
    is_run: bool


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    start = 0
    language: str | None = None
    is_run = True
    lines = path.read_text().splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        fence = _FENCE.match(line.rstrip())
        if fence and language is None:
            language, start = fence[1], number
        elif line.rstrip() == "```" and language is not None:
            text = "".join(lines[start : number - 1])
            found.append(Block(language, start + 1, text, is_run))
            language, is_run = None, True
        elif language is None and line.startswith("% not run: "):
            is_run = False
    assert language is None, f"{path}:{start}: the block does not end"
    return found


def program(page: list[Block]) -> str:
    """The page as one module, each statement on the line that it has on the page."""
    lines: list[str] = []
    for block in page:
        if block.language == "python" and block.is_run:
            lines += [""] * (block.line - 1 - len(lines))
            lines += block.text.splitlines()
            # The closing fence leaves a line for the mark, which ends the output of the block.
            lines.append(f"print({_MARK + str(block.line)!r}, flush=True)")
    return "\n".join(lines) + "\n"


def run_python(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT}"},
    )


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_page(path: Path, tmp_path: Path) -> None:
    page = blocks(path)
    # Importable under a name, as a checkpoint or a task message needs its classes to be.
    module = "example_" + path.stem.replace("-", "_")
    (tmp_path / f"{module}.py").write_text(program(page))
    done = run_python(["-W", "error", "-c", f"import {module}"], tmp_path)
    assert done.returncode == 0, f"{path}\n{done.stderr}"
    assert done.stderr == ""
    printed = {}
    rest = done.stdout
    for block in page:
        if block.language == "python" and block.is_run:
            text, _, rest = rest.partition(f"{_MARK}{block.line}\n")
            printed[block.line] = text
    for block, following in zip(page, [*page[1:], None], strict=True):
        if block.line in printed:
            shown = following.text if following and following.language == "text" else ""
            assert printed[block.line] == shown, f"{path}:{block.line} prints something else"


def test_scenario_of_the_tutorial(tmp_path: Path) -> None:
    """It is red with an empty `present`, as the page says, and green with the one it has."""
    [source] = [b.text for b in blocks(DOCS / "tutorial.md") if b.language == "python"]
    path = tmp_path / "test_mine.py"
    command = ["-m", "pytest", "-p", "no:cacheprovider", "-rA", str(path)]
    for text, status, verdict in (
        (source, 0, "reproduced"),
        (source.replace("\"python_version >= '3.6'\"", ""), 1, "regression"),
    ):
        path.write_text(text)
        done = run_python(command, tmp_path)
        assert (done.returncode, verdict in done.stdout) == (status, True), done.stdout


def test_export_page() -> None:
    [source] = [b.text for b in blocks(DOCS / "export.md") if b.language == "python"]
    done = run_python(["-c", f"{source}\nprint(text)"], ROOT)
    assert done.returncode == 0, done.stderr
    assert "def test_" in done.stdout


def test_readme() -> None:
    source = "".join(b.text for b in blocks(ROOT / "README.md") if b.language == "python")
    done = run_python(["-W", "error", "-c", source], ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    [shown] = re.findall(r"# (\{.*?\})", source)
    assert done.stdout.strip() == shown


def test_map_of_the_runtime_names_what_is_there() -> None:
    text = (DOCS / "plumpy" / "changing-the-runtime.md").read_text()
    table = text.partition("| module | holds |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in table.strip().splitlines()]
    modules = [name for row in rows for name in re.findall(r"`([\w.]+)`", row)]
    assert len(modules) >= 20
    for name in modules:
        path = ROOT.joinpath("plumpy", *name.split("."))
        assert path.is_dir() or path.with_suffix(".py").is_file(), name
    for test in re.findall(r"`(tests/[\w/]+\.py)`", text):
        assert (ROOT / test).is_file(), test


def test_check_page(tmp_path: Path) -> None:
    """The run that docs/check.md shows is a run of the file that it shows."""
    shown, source = blocks(DOCS / "check.md")[:2]
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_communicator.py").write_text(source.text)
    [run] = check([str(tmp_path)], limit=60)
    for finding in run.findings:
        place = f"{Path(finding.file).name}:{finding.line}: {finding.kind}: {finding.test}\n"
        text = f"{place}    seen: {finding.seen}\n    fix:  {finding.kind.fix}\n"
        assert text in shown.text
    assert shown.text.count("seen: ") == len(run.findings) == 3


def test_the_reference_has_every_public_module() -> None:
    pages = "\n".join(page.read_text() for page in (DOCS / "plumpy" / "reference").glob("*.md"))
    documented = set(re.findall(r"automodule:: ([\w.]+)", pages))
    package = ROOT / "plumpy"
    there = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in package.rglob("*.py")
        if not any(part.startswith("_") for part in path.relative_to(ROOT).parent.parts)
        and (path.stem == "__init__" or not path.stem.startswith("_"))
    }
    # `base` and the package itself only collect what is below; the others have pages of their own.
    assert there - documented == {"plumpy", "plumpy.base", "plumpy.cli", "plumpy.postgres"}
    assert documented <= there
