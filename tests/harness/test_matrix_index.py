"""The index is the user's own, asked by the simple API in either of its forms."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.matrix import index as of_index
from harness.matrix.index import IndexUnknown, Listed, configuration, hide_secrets, listing


class Index(ThreadingHTTPServer):
    """A package index that answers with ``pages`` and notes what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, tuple[str, str]] = {}
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/simple/"


class Handler(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        kind, body = self.server.pages.get(self.path, ("", ""))
        self.send_response(200 if kind else 404)
        self.send_header("Content-Type", kind or "text/plain")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def index(wheels: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    server = Index()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", server.url)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


HTML = """<!doctype html>
<a href="../../files/demo-1.0-py3-none-any.whl#sha256=x" data-requires-python="&gt;=3.6">x</a>
<a href="demo-1.1.tar.gz" data-yanked="broken">demo</a>
<a href="demo-1.2rc1.zip">demo</a>
<a href="demo-1.0.tar.gz">demo</a>
<a href="demo_other-9.0-py3-none-any.whl">other</a>
<a href="demo-1.0.exe">demo</a>
<a>no link</a>
"""
LISTED = [Listed("1.0", False, ">=3.6"), Listed("1.1", True), Listed("1.2rc1")]


def test_html_of_an_index_is_read(index: Index) -> None:
    index.pages["/simple/demo/"] = ("text/html", HTML)
    assert listing("Demo") == LISTED


def test_json_of_an_index_is_read(index: Index) -> None:
    files = [
        {"filename": "demo-1.0-py3-none-any.whl", "requires-python": ">=3.6", "yanked": False},
        {"filename": "demo-1.1.tar.gz", "yanked": "broken"},
        {"filename": "demo-1.2rc1.zip", "yanked": False},
    ]
    kind = "application/vnd.pypi.simple.v1+json"
    index.pages["/simple/demo/"] = (kind, json.dumps({"files": files}))
    assert listing("demo") == LISTED


def test_release_with_one_file_left_is_not_yanked(index: Index) -> None:
    page = '<a href="demo-1.0.tar.gz" data-yanked>x</a><a href="demo-1.0-py3-none-any.whl">x</a>'
    index.pages["/simple/demo/"] = ("text/html", page)
    assert listing("demo") == [Listed("1.0")]


def test_user_and_password_go_to_the_index_and_into_no_message(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = index.url.replace("//", "//me:s%40fe@")
    monkeypatch.setenv("PIP_INDEX_URL", secret)
    with pytest.raises(HarnessError) as error:
        listing("demo")
    assert "s%40fe" not in str(error.value)
    ((_, authorization),) = index.asked
    assert authorization == "Basic " + base64.b64encode(b"me:s@fe").decode()
    assert hide_secrets(secret) == index.url


def test_answer_is_kept_for_a_while(index: Index) -> None:
    index.pages["/simple/demo/"] = ("text/html", HTML)
    assert listing("demo") == listing("demo")
    assert len(index.asked) == 1


def test_another_index_is_asked_at_once(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.pages["/simple/demo/"] = ("text/html", HTML)
    index.pages["/other/demo/"] = ("text/html", '<a href="demo-7.0.zip">x</a>')
    assert len(listing("demo")) == 3
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("simple", "other"))
    assert listing("demo") == [Listed("7.0")]


def test_index_that_fails_is_replaced_by_the_kept_answer_and_it_is_said(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.pages["/simple/demo/"] = ("text/html", HTML)
    listing("demo")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    said: list[str] = []
    assert listing("demo", say=said.append) == LISTED
    assert len(said) == 1
    assert "the index was not asked" in said[0]
    assert "from the cache" in said[0]


def test_index_that_fails_with_nothing_kept_is_an_error(
    wheels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    with pytest.raises(IndexUnknown, match=r"cannot be asked .*Connection refused.*go online once"):
        listing("demo")


def test_half_an_answer_is_none(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two indexes one answers: releases that only the other has would be missing."""
    index.pages["/simple/demo/"] = ("text/html", HTML)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://127.0.0.1:9/simple/")
    with pytest.raises(IndexUnknown):
        listing("demo")


def test_nonsense_instead_of_json_is_an_error(index: Index) -> None:
    index.pages["/simple/demo/"] = ("application/vnd.pypi.simple.v1+json", "[1")
    with pytest.raises(IndexUnknown, match="not the simple API"):
        listing("demo")


@pytest.mark.parametrize("url", ["not-a-url", "http://[::1", "nothing://x/"])
def test_address_that_is_none_is_said(
    harness_cache: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", url)
    with pytest.raises(IndexUnknown, match="cannot be asked"):
        listing("demo")


def test_answer_without_end_is_given_up(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_index, "_LARGEST", 1000)
    index.pages["/simple/demo/"] = ("text/html", "x" * 2_000)
    with pytest.raises(IndexUnknown, match="its answer has no end"):
        listing("demo")


def test_damaged_kept_answer_is_asked_for_again(index: Index, harness_cache: Path) -> None:
    index.pages["/simple/demo/"] = ("text/html", HTML)
    listing("demo")
    (harness_cache / "index" / "demo.json").write_text('{"when": "never"')
    assert listing("demo") == LISTED
    assert len(index.asked) == 2


def test_index_that_is_a_directory_is_read(wheels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = wheels.path / "simple" / "demo"
    place.mkdir(parents=True)
    (place / "demo-3.0-py3-none-any.whl").write_text("")
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_INDEX_URL", (wheels.path / "simple").as_uri())
    assert listing("demo") == [Listed("3.0")]


HOME = {"HOME": "/nowhere", "PIP_CONFIG_FILE": os.devnull, "UV_CONFIG_FILE": "/nowhere/uv.toml"}


def test_without_configuration_it_is_pypi() -> None:
    config = configuration(HOME)
    assert (config.urls, config.from_pip) == (("https://pypi.org/simple/",), False)
    assert config.environment_for_uv() == {}


def test_configuration_of_uv_comes_first() -> None:
    config = configuration(
        {
            **HOME,
            "UV_DEFAULT_INDEX": "https://one/simple",
            "UV_INDEX": "more=https://two/simple https://three/simple",
            "PIP_INDEX_URL": "https://pip/simple",
        }
    )
    assert config.urls == ("https://one/simple", "https://two/simple", "https://three/simple")
    assert config.environment_for_uv() == {}, "uv reads its own"


def test_configuration_of_pip_serves_uv_too() -> None:
    config = configuration(
        {**HOME, "PIP_INDEX_URL": "https://one/", "PIP_EXTRA_INDEX_URL": "https://two/"}
    )
    assert config.environment_for_uv() == {
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_DEFAULT_INDEX": "https://one/",
        "UV_INDEX": "https://two/",
    }


def test_files_of_pip_are_read_and_variables_are_stronger(tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = https://file/\nextra-index-url =\n  https://a/\n  https://b/\n"
    )
    env = {**HOME, "PIP_CONFIG_FILE": str(file)}
    assert configuration(env).urls[-3:] == ("https://file/", "https://a/", "https://b/")
    assert configuration({**env, "PIP_INDEX_URL": "https://env/"}).urls[0] == "https://env/"


def test_file_of_uv_is_read(tmp_path: Path) -> None:
    pytest.importorskip("tomllib")
    file = tmp_path / "uv.toml"
    file.write_text(
        '[[index]]\nurl = "https://main/"\ndefault = true\n[[index]]\nurl = "https://more/"\n'
    )
    assert configuration({**HOME, "UV_CONFIG_FILE": str(file)}).urls == (
        "https://main/",
        "https://more/",
    )
