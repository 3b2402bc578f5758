"""Releases become directories: installed once, recognised by content, never written to."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from harness.errors import HarnessError
from harness.matrix import releases
from harness.matrix.installers import IndexFailed, NotForThisPython
from harness.matrix.interpreters import discover, this_interpreter
from harness.matrix.releases import (
    fetch,
    is_kept,
    newest_release,
    obtain,
    recall,
    released_versions,
)


def test_fetch_gives_a_directory_to_import_from(wheels: Any) -> None:
    wheels.add("demo", "1.0", {"demo.py": "answer = 42\n"})
    path = fetch("demo", "1.0")
    code = f"import sys; sys.path.insert(0, {str(path)!r}); import demo; print(demo.answer)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "42"


def test_release_is_installed_once(wheels: Any) -> None:
    """The second time needs neither index nor installer."""
    wheel = wheels.add("demo", "1.0", {"demo.py": "answer = 42\n"})
    first = fetch("demo", "1.0")
    wheel.unlink()
    assert fetch("Demo", "1.0.0".removesuffix(".0")) == first


def test_dependencies_are_installed_too(wheels: Any) -> None:
    wheels.add("demo", "1.0", {"demo.py": ""}, requires=["helper>=2"])
    wheels.add("helper", "1.0", {"helper.py": ""})
    wheels.add("helper", "2.0", {"helper.py": "new = True\n"})
    assert (fetch("demo", "1.0") / "helper.py").read_text() == "new = True\n"


def test_dependency_for_one_python_only_is_resolved_for_each(wheels: Any) -> None:
    """A release with dependencies is not shared between interpreters that differ."""
    oldest = discover().interpreters[0]
    if oldest.minor == this_interpreter().minor:
        pytest.skip("needs two minor versions of Python")
    wheels.add(
        "demo", "1.0", {"demo.py": ""}, requires=[f"helper; python_version<='{oldest.minor}'"]
    )
    wheels.add("helper", "1.0", {"helper.py": ""})
    assert not (fetch("demo", "1.0") / "helper.py").exists()
    assert (fetch("demo", "1.0", oldest) / "helper.py").exists()


def test_extra_is_no_dependency_and_the_directory_is_shared(wheels: Any) -> None:
    wheels.add("demo", "1.0", {"demo.py": ""}, requires=["helper; extra == 'more'"])
    paths = {fetch("demo", "1.0", one) for one in discover().interpreters}
    assert len(paths) == 1


def test_project_with_an_extra_is_kept_apart_from_the_project_alone(wheels: Any) -> None:
    wheels.add("demo", "1.0", {"demo.py": ""}, requires=["helper; extra == 'more'"])
    wheels.add("helper", "1.0", {"helper.py": ""})
    alone = fetch("demo", "1.0")
    assert not is_kept("demo[more]", "1.0")
    more = fetch("Demo[More]", "1.0")
    assert (more / "helper.py").exists()
    assert not (alone / "helper.py").exists()
    assert (fetch("demo", "1.0"), fetch("demo[more]", "1.0")) == (alone, more)
    assert recall("demo[more]", "1.0", this_interpreter()) == obtain(
        "demo[more]", "1.0", this_interpreter()
    )


def test_extra_for_another_python_only_is_resolved_for_each(wheels: Any) -> None:
    """What has nothing to install here may have something there."""
    wheels.add(
        "demo", "1.0", {"demo.py": ""}, requires=["helper; extra=='more' and python_version<'3'"]
    )
    path = fetch("demo[more]", "1.0")
    assert path.parent.name == this_interpreter().tag


def test_extra_that_a_release_does_not_have_is_ignored(wheels: Any) -> None:
    wheels.add("demo", "1.0", {"demo.py": "answer = 42\n"})
    assert (fetch("demo[more]", "1.0") / "demo.py").read_text() == "answer = 42\n"


def test_releases_with_an_extra_are_recognised_by_their_bytes(wheels: Any) -> None:
    for version, text in (("1.0", "a"), ("1.1", "a"), ("1.2", "b")):
        wheels.add(
            "demo", version, {"demo.py": f"{text} = 1\n"}, requires=["helper; extra == 'more'"]
        )
    wheels.add("helper", "1.0", {"helper.py": ""})
    here = this_interpreter()
    one, two, three = (obtain("demo[more]", version, here) for version in ("1.0", "1.1", "1.2"))
    assert one.digest == two.digest != three.digest
    assert one.digest != obtain("demo", "1.0", here).digest


def test_project_that_is_kept_with_an_extra_only_is_known_offline(
    wheels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels.add("demo", "1.0", {"demo.py": ""})
    fetch("demo[more]", "1.0")
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    assert list(map(str, released_versions("demo"))) == ["1.0"]


def test_equal_bytes_are_recognised(wheels: Any) -> None:
    """Metadata does not count, code does."""
    for version, text in (("1.0", "a"), ("1.1", "a"), ("1.2", "b")):
        wheels.add("demo", version, {"demo.py": f"{text} = 1\n"})
    here = this_interpreter()
    one, two, three = (obtain("demo", version, here) for version in ("1.0", "1.1", "1.2"))
    assert one.digest == two.digest != three.digest


def test_pre_releases_are_named_only_when_asked_for(wheels: Any) -> None:
    for version in ("1.0", "1.1rc1", "1.1", "1.10", "1.9"):
        wheels.add("demo", version, {"demo.py": ""})
    assert list(map(str, released_versions("demo"))) == ["1.0", "1.1", "1.9", "1.10"]
    assert Version("1.1rc1") in released_versions("demo", pre=True)
    assert fetch("demo", "1.1rc1").is_dir()


def test_newest_release_is_the_highest_number_and_none_where_the_project_is_unknown(
    wheels: Any,
) -> None:
    for version in ("1.9", "1.10", "2.0rc1"):
        wheels.add("demo", version, {"demo.py": ""})
    assert newest_release("demo") == "1.10"
    assert newest_release("nothing-of-that-name") is None


def test_unknown_release_is_refused_with_the_newest(wheels: Any) -> None:
    wheels.add("demo", "1.0", {"demo.py": ""})
    with pytest.raises(HarnessError, match=r"demo has no release 9\.9 .* newest are 1\.0"):
        fetch("demo", "9.9")


def test_word_that_is_no_release_is_refused(wheels: Any) -> None:
    with pytest.raises(HarnessError, match=r"'latest' is not a release number of demo"):
        fetch("demo", "latest")


def test_unknown_project_is_refused(wheels: Any) -> None:
    with pytest.raises(HarnessError, match="no project 'nowhere'"):
        fetch("nowhere", "1.0")


def test_release_for_another_python_is_told_apart(wheels: Any) -> None:
    wheels.add("demo", "1.0", {"demo.py": ""}, requires_python=">=3.99")
    with pytest.raises(NotForThisPython, match=r"demo.*1\.0.*Python.*>=3\.99"):
        fetch("demo", "1.0")


def test_release_is_read_only(wheels: Any) -> None:
    """But for what interpreters compile, and the installer's own cache is left as it was."""
    wheels.add("demo", "1.0", {"demo.py": "", "pack/__init__.py": ""})
    path = fetch("demo", "1.0")
    everything = [path, *path.rglob("*")]
    compiled = [one for one in everything if one.name == "__pycache__"]
    assert sorted(one.parent.name for one in compiled) == ["pack", "site"]
    everything = [one for one in everything if one not in compiled]
    assert [str(one) for one in everything if os.stat(one).st_mode & 0o222] == []
    assert all(os.stat(one).st_nlink == 1 for one in everything if one.is_file())


def test_release_that_was_changed_is_installed_again(wheels: Any, capsys: Any) -> None:
    wheels.add("demo", "1.0", {"demo.py": "good = 1\n"})
    path = fetch("demo", "1.0")
    file = path / "demo.py"
    file.chmod(0o644)
    file.write_text("bad = 12345\n")
    assert (fetch("demo", "1.0") / "demo.py").read_text() == "good = 1\n"
    assert "was changed; installing it again" in capsys.readouterr().err


def test_offline_the_cache_serves_and_says_so(
    wheels: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    wheels.add("demo", "1.0", {"demo.py": ""})
    fetch("demo", "1.0")
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    assert list(map(str, released_versions("demo"))) == ["1.0"]
    told = capsys.readouterr().err
    assert "demo: the index was not asked (http://127.0.0.1:9/simple/demo/" in told
    assert fetch("demo", "1.0").is_dir()


def test_offline_a_missing_release_is_refused(wheels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels.add("demo", "1.0", {"demo.py": ""})
    with pytest.raises(HarnessError, match=r"demo 1\.0 .* not in the cache .* \(offline\)"):
        obtain("demo", "1.0", this_interpreter(), offline=True)


def test_offline_what_was_refused_is_refused_with_the_same_words(
    wheels: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A grid that was run online is the same offline."""
    wheels.add("demo", "1.0", {"demo.py": ""}, requires_python=">=3.99")
    Path(wheels.path, "demo-1.1-py3-none-any.whl").write_bytes(b"no zip")
    for release in ("1.0", "1.1"):
        said = []
        for offline in (False, True):
            with pytest.raises(HarnessError) as refused:
                obtain("demo", release, this_interpreter(), offline=offline)
            said.append((refused.type, str(refused.value)))
        assert said[0] == said[1]
    assert capsys.readouterr().err == ""


def test_broken_wheel_is_an_error_that_names_the_release(wheels: Any) -> None:
    Path(wheels.path, "demo-1.0-py3-none-any.whl").write_bytes(b"no zip")
    with pytest.raises(HarnessError, match=r"demo==1\.0 cannot be installed"):
        fetch("demo", "1.0")


@pytest.mark.parametrize(
    ("error", "hours", "is_tried"),
    [
        (HarnessError("it failed"), 0, False),
        (HarnessError("it failed"), 1, True),
        (NotForThisPython("it cannot be built"), 1, False),
        (NotForThisPython("it cannot be built"), 25, True),
        (IndexFailed("the index is down"), 0, True),
    ],
)
def test_release_that_could_not_be_installed_is_not_tried_again_at_once(
    wheels: Any,
    harness_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: HarnessError,
    hours: int,
    is_tried: bool,
) -> None:
    """For a day if it cannot be built; else only as long as the answer of an index is believed."""
    wheels.add("demo", "1.0", {"demo.py": ""})

    def fail(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(releases, "install", fail)
        fetch("demo", "1.0")
    for refusal in (harness_cache / "releases" / "demo" / "1.0").glob("refused-*"):
        then = time.time() - hours * 3600
        os.utime(refusal, (then, then))
    if is_tried:
        assert fetch("demo", "1.0").is_dir()
    else:
        with pytest.raises(type(error), match=str(error)):
            fetch("demo", "1.0")


def test_failed_installation_leaves_nothing_behind(wheels: Any, harness_cache: Path) -> None:
    Path(wheels.path, "demo-1.0-py3-none-any.whl").write_bytes(b"no zip")
    with pytest.raises(HarnessError):
        fetch("demo", "1.0")
    left = (harness_cache / "releases" / "demo" / "1.0").iterdir()
    assert [path.name for path in left if path.is_dir()] == []


def test_release_that_could_be_written_to_is_protected_again(wheels: Any) -> None:
    wheels.add("demo", "1.0", {"demo.py": ""})
    site = fetch("demo", "1.0")
    site.chmod(0o755)
    assert fetch("demo", "1.0") == site
    assert site.stat().st_mode & 0o222 == 0
