"""A package index of its own, so that no test depends on what is published."""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest


class WheelDirectory:
    """A directory of wheels that uv and pip are configured to install from, and nothing else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def add(
        self,
        name: str,
        version: str,
        files: Mapping[str, str],
        *,
        requires: Sequence[str] = (),
        requires_python: str = "",
        tag: str = "py3-none-any",
    ) -> Path:
        """Write one wheel: ``files`` maps the names of modules to their text."""
        folder = f"{name.replace('-', '_')}-{version}"
        metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
        metadata += [f"Requires-Dist: {one}" for one in requires]
        metadata += [f"Requires-Python: {requires_python}"] if requires_python else []
        pure = "true" if tag.endswith("none-any") else "false"
        content = {
            **files,
            f"{folder}.dist-info/METADATA": "\n".join(metadata) + "\n",
            f"{folder}.dist-info/WHEEL": (
                f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: {pure}\nTag: {tag}\n"
            ),
        }
        record = f"{folder}.dist-info/RECORD"
        lines = [f"{file},{_hash(text)},{len(text.encode())}" for file, text in content.items()]
        wheel = self.path / f"{folder}-{tag}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for file, text in content.items():
                archive.writestr(file, text)
            archive.writestr(record, "\n".join([*lines, f"{record},,"]) + "\n")
        return wheel


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


@pytest.fixture
def harness_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the harness."""
    path = tmp_path / "harness-cache"
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(path))
    return path


@pytest.fixture
def wheels(
    tmp_path: Path, harness_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> WheelDirectory:
    """An empty directory of wheels, which is the whole package index."""
    for name in list(os.environ):
        if name.startswith(("UV_", "PIP_")):
            monkeypatch.delenv(name)
    found = WheelDirectory(tmp_path / "wheels")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(found.path))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    return found
