"""uv installs, else pip; wheels where there are any; and failures say what to do."""

from __future__ import annotations

import io
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.matrix import installers
from harness.matrix.installers import IndexFailed, NotForThisPython, install
from harness.matrix.interpreters import this_interpreter


def put(site: Path, requirement: str) -> list[str]:
    site.mkdir()
    install(requirement, site, this_interpreter())
    return sorted(path.name for path in site.glob("*.py"))


#: Builds a wheel of one module with nothing but the standard library.
BACKEND = """
import zipfile
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    {first}
    name = "demo-{version}-py3-none-any.whl"
    info = "demo-{version}.dist-info/"
    with zipfile.ZipFile(wheel_directory + "/" + name, "w") as wheel:
        wheel.writestr("demo.py", "")
        about = "Metadata-Version: 2.1\\nName: demo\\nVersion: {version}\\n"
        wheel.writestr(info + "METADATA", about)
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def add_source(directory: Path, version: str, first: str = "pass") -> None:
    """Publish a release of demo that has no wheel; its build begins with the statement first."""
    files = {
        "pyproject.toml": PROJECT,
        "backend.py": BACKEND.format(first=first, version=version),
        "PKG-INFO": f"Metadata-Version: 2.1\nName: demo\nVersion: {version}\n",
    }
    with tarfile.open(directory / f"demo-{version}.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"demo-{version}/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))


def test_neither_uv_nor_pip_is_said(
    wheels: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installers, "find_uv", lambda: None)
    monkeypatch.setattr(installers, "has_pip", lambda path: False)
    with pytest.raises(HarnessError, match="neither uv nor pip"):
        put(tmp_path / "site", "demo==1.0")


def test_pip_serves_where_uv_is_missing(
    wheels: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not installers.has_pip(this_interpreter().path):
        pytest.skip("this Python has no pip")
    wheels.add("demo", "1.0", {"demo.py": ""}, requires=["helper"])
    wheels.add("helper", "1.0", {"helper.py": ""})
    monkeypatch.setattr(installers, "find_uv", lambda: None)
    assert put(tmp_path / "site", "demo==1.0") == ["demo.py", "helper.py"]


def test_interpreter_that_uv_refuses_is_served_by_pip(
    wheels: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not installers.has_pip(this_interpreter().path):
        pytest.skip("this Python has no pip")
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho 'error: the interpreter is too old' >&2\nexit 2\n")
    uv.chmod(0o755)
    wheels.add("demo", "1.0", {"demo.py": ""})
    monkeypatch.setattr(installers, "find_uv", lambda: str(uv))
    assert put(tmp_path / "site", "demo==1.0") == ["demo.py"]


def test_wheel_of_an_older_dependency_is_better_than_a_build(wheels: Any, tmp_path: Path) -> None:
    """Building what a dependency offers only as source is the last resort."""
    wheels.add("outer", "1.0", {"outer.py": ""}, requires=["demo"])
    wheels.add("demo", "1.0", {"demo.py": ""})
    add_source(wheels.path, "2.0", "raise SystemExit('must not run')")
    assert put(tmp_path / "site", "outer==1.0") == ["demo.py", "outer.py"]


def test_source_that_does_not_build_here_is_not_for_this_python(
    wheels: Any, tmp_path: Path
) -> None:
    add_source(wheels.path, "2.0", "raise SystemExit('cannot be built')")
    with pytest.raises(NotForThisPython, match=r"demo==2\.0 cannot be installed for Python"):
        put(tmp_path / "site", "demo==2.0")


def test_dependency_that_has_only_its_source_is_built(wheels: Any, tmp_path: Path) -> None:
    """As contextvars, which aiocontextvars 0.2.1 needs on Python 3.6."""
    wheels.add("outer", "1.0", {"outer.py": ""}, requires=["demo>=2"])
    add_source(wheels.path, "2.0")
    assert put(tmp_path / "site", "outer==1.0") == ["demo.py", "outer.py"]


def test_dependency_is_compiled_quickly_and_kept_apart(
    wheels: Any, tmp_path: Path, harness_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else finds in uv's own cache what was compiled without optimizing."""
    flags = tmp_path / "flags"
    monkeypatch.setenv("CFLAGS", "-g")
    add_source(
        wheels.path, "4.0", f"import os; open({str(flags)!r}, 'w').write(os.environ['CFLAGS'])"
    )
    wheels.add("outer", "1.0", {"outer.py": ""}, requires=["demo>=4"])
    put(tmp_path / "site", "outer==1.0")
    assert flags.read_text() == "-g -O0"
    assert list((harness_cache / "built").glob("**/demo-4.0-py3-none-any.whl"))


def test_dependency_that_cannot_be_built_is_built_once(wheels: Any, tmp_path: Path) -> None:
    """As PyYAML 5.4.1, on which each of thirty releases of kiwipy depends, on Python 3.10."""
    builds = tmp_path / "builds"
    add_source(wheels.path, "2.0", f"open({str(builds)!r}, 'a').write('.'); raise SystemExit(1)")
    for name in ("outer", "other"):
        wheels.add(name, "1.0", {f"{name}.py": ""}, requires=["demo>=2"])
        with pytest.raises(NotForThisPython, match=rf"{name}==1\.0 cannot be installed for Python"):
            put(tmp_path / name, f"{name}==1.0")
    assert builds.read_text() == "."


def test_dependency_that_cannot_be_built_is_built_once_by_many_at_once(
    wheels: Any, tmp_path: Path
) -> None:
    builds = tmp_path / "builds"
    add_source(wheels.path, "3.0", f"open({str(builds)!r}, 'a').write('.'); raise SystemExit(1)")
    for name in ("outer", "other"):
        wheels.add(name, "1.0", {f"{name}.py": ""}, requires=["demo>=3"])
    with ThreadPoolExecutor(2) as pool:
        tries = [pool.submit(put, tmp_path / name, f"{name}==1.0") for name in ("outer", "other")]
        assert [type(one.exception()) for one in tries] == [NotForThisPython, NotForThisPython]
    assert builds.read_text() == "."


def test_release_is_not_built_where_it_is_a_dependency_that_has_no_wheel(
    wheels: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would fail as before: of plumpy 0.11 to 0.23 that was a fifth of all installing."""
    wheels.add("outer", "1.0", {"outer.py": ""}, requires=["demo>=2"])
    add_source(wheels.path, "2.0")
    tried: list[str] = []
    try_one = installers._try

    def noted(attempt: installers._Attempt, site: Path) -> str | None:
        tried.append(attempt.builds)
        return try_one(attempt, site)

    monkeypatch.setattr(installers, "_try", noted)
    put(tmp_path / "site", "outer==1.0")
    assert tried == ["", "all"]


@pytest.mark.parametrize(
    ("last", "error"),
    [
        ("Failed to build `demo==2.0` cause: Failed to fetch: `https://x`", IndexFailed),
        ("no end after 180 s", HarnessError),
    ],
)
def test_failure_that_may_pass_is_not_taken_for_a_lack_of_wheels(
    wheels: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    last: str,
    error: type[HarnessError],
) -> None:
    """That there is no wheel was true, but it is not why the build came to nothing."""
    lacks = "Because demo==2.0 has no usable wheels"
    monkeypatch.setattr(installers, "_try", lambda one, _: last if one.builds == "all" else lacks)
    for name in ("outer", "other"):
        with pytest.raises(HarnessError, match=f"{name}==1.0 cannot .*{last}") as caught:
            put(tmp_path / name, f"{name}==1.0")
        assert caught.type is error


def test_release_for_another_python_is_told_apart(wheels: Any, tmp_path: Path) -> None:
    wheels.add("demo", "1.0", {"demo.py": ""}, requires_python=">=3.99")
    with pytest.raises(NotForThisPython, match=r"demo==1\.0 is not for Python"):
        put(tmp_path / "site", "demo==1.0")


def test_index_that_cannot_be_reached_is_told_apart(
    wheels: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(IndexFailed, match="check that the package index can be reached"):
        put(tmp_path / "site", "demo==1.0")


def test_disk_without_room_says_nothing_about_the_release(
    wheels: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another time there may be room, so it is not kept as what this release is."""
    full = "error: failed to copy the wheel: No space left on device (os error 28)"
    monkeypatch.setattr(installers, "_try", lambda *_: full)
    with pytest.raises(IndexFailed, match="make room there"):
        install("demo==1.0", tmp_path, this_interpreter())


def test_installation_without_end_is_ended(
    wheels: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\nexec sleep 60\n")
    uv.chmod(0o755)
    monkeypatch.setattr(installers, "find_uv", lambda: str(uv))
    monkeypatch.setattr(installers, "has_pip", lambda path: False)
    monkeypatch.setattr(installers, "LIMIT", 0.2)
    with pytest.raises(HarnessError, match=r"no end after 0\.2 s"):
        put(tmp_path / "site", "demo==1.0")


def test_killed_installer_says_nothing_about_the_release(
    wheels: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of an installation: the next run tries again."""
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\nkill -INT $$\n")
    uv.chmod(0o755)
    monkeypatch.setattr(installers, "find_uv", lambda: str(uv))
    with pytest.raises(installers.IndexFailed, match="the installer was killed by SIGINT"):
        put(tmp_path / "site", "demo==1.0")


def test_installers_can_be_stopped(
    wheels: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv, fifo = tmp_path / "uv", tmp_path / "fifo"
    os.mkfifo(fifo)
    uv.write_text(f"#!/bin/sh\necho > {fifo}\nsleep 3600\n")
    uv.chmod(0o755)
    monkeypatch.setattr(installers, "find_uv", lambda: str(uv))
    with ThreadPoolExecutor(1) as pool:
        installation = pool.submit(put, tmp_path / "site", "demo==1.0")
        fifo.read_text()
        installers.stop_installers()
        with pytest.raises(installers.IndexFailed, match="killed by SIGKILL"):
            installation.result(60)
