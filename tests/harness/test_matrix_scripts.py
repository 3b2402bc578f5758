"""Scripts are exported once, and again when anything they come from changes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.export import export
from harness.matrix import scripts
from harness.matrix.scripts import Script, Scripts, with_extras
from harness.scenario import Scenario
from harness.selection import select

TEXT = """
from harness.scenario import scenario


@scenario(id="S1", title="a title", source="https://example.org/1", present=("demo",))
async def test_demo():
    from os.path import sep

    assert sep
"""
names = itertools.count()


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of what was exported and not remembered."""
    seen: list[str] = []

    def counted(record: Scenario) -> str:
        seen.append(record.id)
        return export(record)

    monkeypatch.setattr(scripts, "export", counted)
    return seen


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Scenario]:
    """Write a package with one scenario and a helper, as another process finds it."""
    package = f"package{next(names)}"

    def write(helper: str = "VALUE = 1\n") -> Scenario:
        scripts._digest_of_sources.cache_clear()
        scripts._digest_of_package.cache_clear()
        folder = tmp_path / package
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").touch()
        (folder / "helper.py").write_text(helper)
        (folder / "test_it.py").write_text(TEXT)
        (found,) = select([str(folder / "test_it.py")])
        return found

    return write


def test_script_is_remembered_by_the_next_run(
    tmp_path: Path, exported: list[str], record: Callable[..., Scenario]
) -> None:
    one = record()
    for _ in range(2):
        found = Scripts(tmp_path / "scripts")
        assert found.of(one).text == export(one)
        found.keep()
    assert exported == ["S1"]


def test_change_of_any_file_of_the_package_exports_again(
    tmp_path: Path, exported: list[str], record: Callable[..., Scenario]
) -> None:
    for helper in ("VALUE = 1\n", "VALUE = 2\n"):
        one = record(helper=helper)
        found = Scripts(tmp_path / "scripts")
        found.of(one)
        found.keep()
    assert exported == ["S1", "S1"]


@pytest.mark.parametrize("damage", ["", "[]", '{"x": 1}', '{"x": ["y", "z"]}', "\0"])
def test_damaged_file_is_written_anew(
    tmp_path: Path, exported: list[str], record: Callable[..., Scenario], damage: str
) -> None:
    one = record()
    for _ in range(2):
        found = Scripts(tmp_path / "scripts")
        assert found.of(one).text == export(one)
        found.keep()
        for file in (tmp_path / "scripts").iterdir():
            file.write_text(damage)
    assert exported == ["S1", "S1"]


def test_changed_text_in_the_file_is_not_run(
    tmp_path: Path, exported: list[str], record: Callable[..., Scenario]
) -> None:
    one = record()
    found = Scripts(tmp_path / "scripts")
    found.of(one)
    found.keep()
    (file,) = (tmp_path / "scripts").iterdir()
    file.write_text(file.read_text().replace("assert", "import"))
    assert Scripts(tmp_path / "scripts").of(one).text == export(one)


def test_error_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "test_bad.py"
    file.write_text(
        "from harness.scenario import scenario\n\n\n"
        "@scenario(id='S2', title='t', source='s', present=('demo',))\n"
        "async def test_bad(request):\n    pass\n"
    )
    (one,) = select([str(file)])
    for _ in range(2):
        with pytest.raises(HarnessError, match="request"):
            Scripts(tmp_path / "scripts").of(one)


def test_script_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://x")
    assert Script.of("os.environ['AMQP_URL']").looks_outside
    assert not Script.of("pass").looks_outside
    monkeypatch.delenv("AMQP_URL")
    assert not Script.of("os.environ['AMQP_URL']").looks_outside
    assert Script.of("import importlib.metadata").tells_release
    assert Script.of("a").digest != Script.of("b").digest


@pytest.mark.parametrize(
    ("library", "expected"),
    [("demo", "demo[more]"), ("De.mo2", "de_mo2[a,b]"), ("helper", "helper"), ("other", "other")],
)
def test_extras_are_those_that_the_header_names(library: str, expected: str) -> None:
    listed = '["demo[more]==1.0", "de_mo2[b,a]", "helper==2"]'
    text = f'# /// script\n# requires-python = ">=3.9"\n# dependencies = {listed}\n# ///\n'
    assert with_extras(text, library) == expected


def test_script_without_a_header_wants_no_extras() -> None:
    assert with_extras("pass\n", "demo") == "demo"
