"""A package index of its own, so that no test depends on what is published."""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
def wheels(tmp_path: Path, harness_cache: Path, monkeypatch: pytest.MonkeyPatch) -> WheelDirectory:
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


@dataclass(frozen=True)
class Demo:
    """A library whose releases have a history, and a scenario about it."""

    wheels: WheelDirectory
    directory: Path

    def release(self, version: str, body: str = "pass", **more: Any) -> None:
        """Publish a release in which the scenario does ``body``."""
        text = f"import asyncio, os, sys, time\n\ndef check():\n    {body}\n"
        self.wheels.add("demo", version, {"demo.py": text}, **more)

    def history(self, **bodies: str) -> None:
        """Publish ``v1_2="raise ..."`` as 1.2, and so on."""
        for name, body in bodies.items():
            self.release(name[1:].replace("_", "."), body)

    def scenario(
        self, *present: str, id: str = "D1", python: str = ">=3.6", body: str = ""
    ) -> Path:
        """Write a file with a scenario that calls ``demo.check()``, or does ``body``."""
        file = self.directory / f"test_{id.lower()}.py"
        file.write_text(
            "from harness.scenario import scenario\n\n\n"
            f"@scenario(id={id!r}, title='a demo', source='https://example.org/1',\n"
            f"          present={tuple(present)!r}, library='demo', python={python!r}, limit=5)\n"
            "async def test_demo():\n"
            f"    {body or 'import demo; demo.check()'}\n"
        )
        return file


@pytest.fixture
def demo(wheels: WheelDirectory, tmp_path: Path) -> Demo:
    directory = tmp_path / "given"
    directory.mkdir()
    return Demo(wheels, directory)
