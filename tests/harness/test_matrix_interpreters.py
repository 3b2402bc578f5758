"""Interpreters are known by what they answer, and each is named once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from packaging.markers import Marker

from harness.broker.processes import wait_until
from harness.matrix import interpreters
from harness.matrix.interpreters import (
    Interpreter,
    Rejected,
    ask,
    discover,
    select,
    this_interpreter,
)

PYPY = """#!/bin/sh
echo '{"version": "3.9.1", "version_info": [3, 9, 1], "implementation": "PyPy"}'
"""


@pytest.fixture
def only_path(tmp_path: Path, harness_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all of PATH; there is no pyenv and no uv."""
    found = tmp_path / "bin"
    found.mkdir()
    monkeypatch.setenv("PATH", str(found))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "uv"))
    return found


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def reasons(found: interpreters.Found) -> dict[str, str]:
    return {Path(one.path).name: one.reason for one in found.rejected}


def test_interpreter_describes_itself(harness_cache: Path) -> None:
    here = this_interpreter()
    assert here.version.startswith("{}.{}.{}".format(*sys.version_info[:3]))
    assert here.minor == "{}.{}".format(*sys.version_info[:2])
    assert here.prefix == os.path.realpath(sys.base_prefix)
    assert Marker(f"python_version == '{here.minor}'").evaluate(dict(here.environment))


def test_interpreter_is_named_once_however_often_it_is_found(only_path: Path) -> None:
    """A link and a virtual environment are the same interpreter; each is left out with a reason."""
    real = Path(os.path.realpath(sys.executable))
    for name in ("python", "python3", "python3.99"):
        (only_path / name).symlink_to(real)
    found = discover()
    assert [one.path for one in found.interpreters] == [str(real)]
    assert set(reasons(found)) == {"python", "python3", "python3.99"}
    assert all(str(real) in reason for reason in reasons(found).values())


def test_pyenv_and_uv_are_searched(only_path: Path, tmp_path: Path) -> None:
    real = os.path.realpath(sys.executable)
    for place in ("pyenv/versions/3.99/bin/python", "uv/cpython-3.99/bin/python3"):
        path = tmp_path / place
        path.parent.mkdir(parents=True)
        path.symlink_to(real)
    found = discover()
    assert [one.path for one in found.interpreters] == [real]
    assert len(found.rejected) == 2


def test_shims_of_pyenv_are_left_out(only_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run whatever the current directory says; what they lead to is found anyway."""
    root = only_path.parent / "pyenv"
    program(root / "shims" / "python3.9", "#!/bin/sh\nexit 127\n")
    monkeypatch.setenv("PATH", str(root / "shims"))
    found = discover()
    assert found.interpreters == ()
    assert "shim" in reasons(found)["python3.9"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#!/bin/sh\necho broken pipe dream >&2\nexit 3\n", "does not start (status 3): broken"),
        ("#!/bin/sh\necho hello\n", "does not answer as a Python does"),
        ("#!/nowhere/at/all\n", "does not start"),
        (
            '#!/bin/sh\necho \'{"version": "2.7", "version_info": [2, 7, 18]}\'\n',
            "Python 2.7 is older than 3.6",
        ),
        (PYPY, "PyPy is not CPython"),
        ("#!/bin/sh\nexec /usr/bin/yes\n", "does not answer as a Python does"),
        ("#!/bin/sh\nexec /usr/bin/yes >&2\n", "does not answer as a Python does"),
    ],
    ids=["fails", "something else", "no program", "too old", "not CPython", "rubbish", "errors"],
)
def test_candidate_that_is_no_use_is_left_out_with_the_reason(
    only_path: Path, text: str, reason: str
) -> None:
    program(only_path / "python3.7", text)
    found = discover()
    assert found.interpreters == ()
    assert reason in reasons(found)["python3.7"]


def test_candidate_that_never_answers_is_left_out(
    only_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreters, "ANSWER_LIMIT", 0.2)
    path = program(only_path / "python3.7", "#!/bin/sh\nexec /bin/sleep 60\n")
    answer = ask(str(path))
    assert isinstance(answer, Rejected)
    assert "no answer within 0.2 s" in answer.reason


def test_candidate_that_leaves_a_process_is_heard_and_the_process_ended(
    only_path: Path, tmp_path: Path
) -> None:
    """Even one that holds the pipe open, on which an answer has come."""
    real, pid = os.path.realpath(sys.executable), tmp_path / "pid"
    text = f'#!/bin/sh\n/bin/sleep 3600 &\necho $! > {pid}\nexec {real} "$@"\n'
    assert isinstance(ask(str(program(only_path / "python3.7", text))), Interpreter)
    state = Path(f"/proc/{pid.read_text().strip()}/stat")
    assert wait_until(lambda: not state.exists() or ") Z" in state.read_text(), 10)


def test_candidate_that_is_too_old_is_asked_once(
    only_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program; of a script nobody knows what it will say."""
    asked: list[str] = []

    def answer(path: str) -> Rejected:
        asked.append(path)
        return Rejected(path, "Python 2.7 is older than 3.6", lasting=True)

    monkeypatch.setattr(interpreters, "ask", answer)
    (only_path / "python2").touch()
    program(only_path / "python3.7", "\x7fELF")
    for _ in range(2):
        assert "older than 3.6" in reasons(discover())["python3.7"]
    assert len(asked) == 1


def test_answer_is_asked_for_again_when_the_program_changes(only_path: Path) -> None:
    """What a script answered is not kept; what a program answered is kept for that very file."""
    real = os.path.realpath(sys.executable)
    path = program(only_path / "python3.7", "#!/bin/sh\nexit 3\n")
    assert discover().interpreters == ()
    program(path, f'#!/bin/sh\nexec {real} "$@"\n')
    assert [one.path for one in discover().interpreters] == [real]


def test_selection_by_version_specifier_and_program(harness_cache: Path) -> None:
    here = this_interpreter()
    for word in (here.version, here.minor, f"=={here.minor}.*", sys.executable):
        found = select([word])
        assert here in found.interpreters, word
        assert found.rejected == ()
    assert {one.minor for one in select([f"<{here.minor}"]).interpreters}.isdisjoint({here.minor})


def test_what_is_asked_for_and_missing_is_said(only_path: Path) -> None:
    (only_path / "python3").symlink_to(os.path.realpath(sys.executable))
    found = select(["3.99", "/nowhere/python", "python3"])
    assert found.interpreters == (this_interpreter(),)
    assert [str(one) for one in found.rejected] == [
        "3.99: no such Python on this machine",
        "/nowhere/python: does not start: No such file or directory",
    ]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("2.7", "Python older than 3.6 is not supported"),
        ("3.5.10", "Python older than 3.6 is not supported"),
        ("<3.6", "Python older than 3.6 is not supported"),
        ("<=3.6", "no such Python on this machine"),
        ("4.0", "no such Python on this machine"),
    ],
)
def test_python_that_is_too_old_is_not_called_missing(
    only_path: Path, word: str, reason: str
) -> None:
    (rejected,) = select([word]).rejected
    assert str(rejected) == f"{word}: {reason}"
