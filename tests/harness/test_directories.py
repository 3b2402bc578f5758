"""Where the cache lies, and what is said when it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.directories import cache_directory
from harness.errors import HarnessError


def test_cache_lies_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "named"))
    assert cache_directory() == tmp_path / "named"
    assert cache_directory().is_dir()


def test_cache_lies_in_the_users_cache_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HARNESS_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "loop-harness"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_directory() == tmp_path / "home" / ".cache" / "loop-harness"


def test_place_that_cannot_be_made_is_an_error_with_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "file" / "below"))
    with pytest.raises(HarnessError, match="name another one with HARNESS_CACHE_DIR"):
        cache_directory()
