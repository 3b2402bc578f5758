"""Debian's packages are found and unpacked without root, whatever lists the machine has."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.broker import packages
from harness.broker.packages import Archive, Package
from harness.errors import HarnessError

debian = pytest.mark.skipif(
    bool(packages.missing_tools()), reason="needs apt and dpkg: a Debian-like machine"
)


def test_a_machine_without_apt_is_told_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt-get" in packages.missing_tools()
    with pytest.raises(HarnessError, match="no apt-get, apt-cache, dpkg-deb, dpkg-query"):
        Archive(tmp_path, print)


def test_the_first_alternative_comes_first_and_versions_are_left_off() -> None:
    text = "a (>= 1.2) | b, c:any, d [amd64]"
    assert packages._dependencies(text) == (("a", "b"), ("c",), ("d",))


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Package sources of our own: name -> what it depends on."""
    known: dict[str, tuple[tuple[str, ...], ...]] = {"rabbitmq-server": (("libone",), ("adduser",))}

    def show(self: Archive, names: list[str]) -> list[Package]:
        return [Package(name, "1", known[name]) for name in names if name in known]

    monkeypatch.setattr(Archive, "_show", show)
    monkeypatch.setattr(packages, "missing_tools", list)
    return known


Known = dict[str, tuple[tuple[str, ...], ...]]


def test_only_libraries_and_erlang_are_followed(known: Known, tmp_path: Path) -> None:
    known.update({"libone": (("erlang-two",), ("dpkg",)), "erlang-two": (), "adduser": ()})
    found = Archive(tmp_path, print).closure(["rabbitmq-server"])
    assert [package.name for package in found] == ["erlang-two", "libone", "rabbitmq-server"]


def test_an_installed_alternative_is_as_good_as_the_first(known: Known, tmp_path: Path) -> None:
    known["rabbitmq-server"] = (("libnew", "libold"),)
    known["libnew"] = ()
    found = Archive(tmp_path, print).closure(["rabbitmq-server"], without={"libold"})
    assert [package.name for package in found] == ["rabbitmq-server"]


def test_a_circle_of_dependencies_ends(known: Known, tmp_path: Path) -> None:
    known.update({"libone": (("libtwo",),), "libtwo": (("libone",),)})
    assert len(Archive(tmp_path, print).closure(["rabbitmq-server"])) == 3


@debian
def test_a_machine_without_package_lists_gets_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty" / "partial").mkdir(parents=True)
    configuration = tmp_path / "apt.conf"
    configuration.write_text(f'Dir::State::lists "{tmp_path / "empty"}";\n')
    monkeypatch.setenv("APT_CONFIG", str(configuration))
    said: list[str] = []
    archive = Archive(tmp_path / "own", said.append)
    assert said == ["fetching Debian's package lists"]
    (package,) = [each for each in archive.closure(["hostname"]) if each.name == "hostname"]
    (deb,) = archive.download([package], tmp_path / "debs")
    packages.unpack([deb], tmp_path / "root")
    program = next((tmp_path / "root").glob("**/bin/hostname"))
    assert subprocess.run([program], check=True, capture_output=True).stdout


@debian
def test_sources_without_rabbitmq_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty" / "partial").mkdir(parents=True)
    configuration = tmp_path / "apt.conf"
    configuration.write_text(
        f'Dir::State::lists "{tmp_path / "empty"}";\n'
        f'Dir::Etc::sourcelist "{tmp_path / "none"}";\nDir::Etc::sourceparts "{tmp_path}";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(configuration))
    with pytest.raises(HarnessError, match="offer no rabbitmq-server"):
        Archive(tmp_path / "own", print)


@debian
def test_what_is_no_package_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "x.deb").write_text("not a package")
    with pytest.raises(HarnessError, match=r"cannot unpack x\.deb"):
        packages.unpack([tmp_path / "x.deb"], tmp_path / "root")
