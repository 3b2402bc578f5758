"""Ask the user's configured package index which releases a project has.

The index is the one uv or pip would use: ``UV_*`` and ``PIP_*``, ``uv.toml``, ``pip.conf``. It is
asked by the simple repository API (PEP 503, 691, 592), because neither tool lists yanked releases.
An answer is kept; when the index cannot be reached the kept one serves, with a message.
"""

from __future__ import annotations

import configparser
import json
import os
import shlex
import sys
import time
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from harness.directories import cache_directory
from harness.errors import HarnessError
from harness.matrix.cache import Say, digest, keep, say_on_stderr

if TYPE_CHECKING:  # what only an index that is asked needs is imported there
    import ssl

DEFAULT_INDEX = "https://pypi.org/simple/"
#: Seconds for which an answer of the index is used again without asking.
FRESH = 600.0
_TIMEOUT = 20.0
#: Seconds that an answer may take as a whole, and bytes that it may have.
_LONGEST, _LARGEST = 60.0, 1 << 28
_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"


@dataclass(frozen=True)
class IndexConfig:
    """Where the user gets packages from.

    :param urls: simple indexes, the main one first
    :param find_links: directories (or ``file:`` URLs) that hold distributions
    :param from_pip: whether only pip is configured, so that uv has to be told
    :param offline: whether the user forbids asking
    """

    urls: tuple[str, ...]
    find_links: tuple[str, ...] = ()
    from_pip: bool = False
    offline: bool = False

    @property
    def identity(self) -> str:
        """Hash of all that decides what is found there."""
        return digest(*self.urls, "", *self.find_links)

    def environment_for_uv(self) -> dict[str, str]:
        """Return the variables that make uv use this index; arguments would show secrets."""
        if not self.from_pip:
            return {}
        # pip takes the best release of all indexes, uv would stop at the first that has any.
        told = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
        told |= {"UV_FIND_LINKS": ",".join(self.find_links)} if self.find_links else {}
        if self.urls:
            told["UV_DEFAULT_INDEX"] = self.urls[0]
            if self.urls[1:]:
                told["UV_INDEX"] = " ".join(self.urls[1:])
        return told


@dataclass(frozen=True)
class Listed:
    """One release, as the index lists it.

    :param version: the release
    :param yanked: whether its maintainer withdrew it
    :param requires_python: the interpreters it says it is for; empty for all
    """

    version: str
    yanked: bool = False
    requires_python: str = ""


class Unreachable(Exception):
    """An index did not answer; the text says why."""


class IndexUnknown(HarnessError):
    """Nothing is known about a project, because the index cannot be asked."""


def configuration(environ: Mapping[str, str] | None = None) -> IndexConfig:
    """Read the configuration of uv, then that of pip.

    :param environ: in place of this process's environment
    """
    env = os.environ if environ is None else environ
    uv = _uv_toml(env)
    main = env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL") or uv.get("main", "")
    more = [*_words(env.get("UV_INDEX")), *_words(env.get("UV_EXTRA_INDEX_URL"))]
    more = [url.partition("=")[2] if "=" in url.partition("://")[0] else url for url in more]
    more += uv.get("more", [])
    links = [*(env.get("UV_FIND_LINKS") or "").split(","), *uv.get("links", [])]
    links = [link for link in links if link]
    offline = (env.get("UV_OFFLINE") or "").lower() in ("1", "true", "yes")
    if main or more or links:
        return IndexConfig((main or DEFAULT_INDEX, *more), tuple(links), offline=offline)
    pip = _pip_conf(env)
    no_index = (pip.get("no-index") or "").lower() in ("1", "true", "yes", "on")
    urls = (pip.get("index-url") or DEFAULT_INDEX, *_words(pip.get("extra-index-url")))
    return IndexConfig(
        () if no_index else urls,
        tuple(_words(pip.get("find-links"))),
        from_pip=bool(pip),
        offline=offline,
    )


def listing(library: str, *, say: Say = say_on_stderr, offline: bool = False) -> list[Listed]:
    """Return every release of a project, oldest first; yanked ones and pre-releases too.

    :param library: project name
    :param say: told when a kept answer serves because the index cannot be reached
    :param offline: use the kept answer without asking
    :raises IndexUnknown: if it cannot be asked and no answer was kept
    :raises HarnessError: if the project does not exist
    """
    name = canonicalize_name(library)
    config = configuration()
    source = config.identity
    store = cache_directory() / "index" / f"{name}.json"
    kept = _kept(store)
    if kept is not None and kept["source"] == source and 0 <= time.time() - kept["when"] < FRESH:
        return _releases(kept)
    if offline or config.offline:
        why = "offline"
    else:
        try:
            releases = _query(name, config)
        except Unreachable as error:
            why = str(error)
        else:
            if not releases:
                raise HarnessError(
                    f"the package index has no project {library!r}; check the name, "
                    "or the index that pip and uv are configured for"
                )
            text = json.dumps(
                {
                    "source": source,
                    "when": time.time(),
                    "releases": [asdict(release) for release in releases],
                }
            )
            keep(store, text)
            return releases
    if kept is None:
        raise IndexUnknown(
            f"the releases of {library!r} are not known and the package index cannot be asked "
            f"({why}); go online once, or name releases that are in the cache with --release"
        )
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept["when"]))
    say(f"{name}: the index was not asked ({why}); using its answer of {day} from the cache")
    return _releases(kept)


def hide_secrets(url: str) -> str:
    """Return a URL without its user name and password."""
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _kept(store: Path) -> dict[str, Any] | None:
    try:
        kept = json.loads(store.read_text(encoding="utf-8"))
        _releases(kept)
        float(kept["when"])
        str(kept["source"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return dict(kept)


def _releases(kept: Mapping[str, Any]) -> list[Listed]:
    return [Listed(**plain) for plain in kept["releases"]]


def _query(name: str, config: IndexConfig) -> list[Listed]:
    files: list[dict[str, Any]] = []
    failures = []
    for url in config.urls:
        try:
            files += _files_of(f"{url.rstrip('/')}/{name}/")
        except Unreachable as error:
            failures.append(str(error))
    for link in config.find_links:
        files += _files_in(link)
    # One index that fails while another answers is a partial list: worse than none.
    if failures:
        raise Unreachable("; ".join(failures))
    grouped: dict[Version, list[dict[str, Any]]] = {}
    for file in files:
        version = _version_of(file["filename"], name)
        if version is not None:
            grouped.setdefault(version, []).append(file)
    return [
        Listed(
            str(version),
            all(file.get("yanked") not in (None, False) for file in group),
            next((file["requires-python"] for file in group if file.get("requires-python")), ""),
        )
        for version, group in sorted(grouped.items())
    ]


def _files_of(url: str) -> list[dict[str, Any]]:
    """Return the files of one page of the simple API; none if there is no such page."""
    import http.client
    import urllib.error
    import urllib.request

    if url.startswith("file:"):
        return _files_in(url)
    try:
        where = hide_secrets(url)
    except ValueError as error:
        raise Unreachable(f"its address is no URL: {error}") from None
    end = time.monotonic() + _LONGEST
    data = b""
    try:
        request = urllib.request.Request(where, headers={"Accept": _ACCEPT})
        secret = _credentials(url)
        if secret:
            request.add_header("Authorization", f"Basic {secret}")
        with urllib.request.urlopen(request, timeout=_TIMEOUT, context=_tls()) as answer:
            kind = answer.headers.get_content_type()
            while chunk := answer.read1(1 << 20):
                data += chunk
                if time.monotonic() > end or len(data) > _LARGEST:
                    raise Unreachable(f"{where}: its answer has no end")
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            return []
        raise Unreachable(f"{where}: {error.code} {error.reason}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise Unreachable(f"{where}: {getattr(reason, 'strerror', None) or reason}") from None
    body = data.decode("utf-8", "replace")
    if kind.endswith("json"):
        try:
            return list(json.loads(body)["files"])
        except (ValueError, KeyError, TypeError):
            raise Unreachable(f"{where}: the answer is not the simple API's JSON") from None
    return _anchors(body)


def _files_in(link: str) -> list[dict[str, Any]]:
    place = Path(link)
    if link.startswith("file:"):
        place = Path(urllib.parse.unquote(urllib.parse.urlsplit(link).path))
    page = place / "index.html"
    try:
        if page.is_file():
            return _anchors(page.read_text(encoding="utf-8", errors="replace"))
        return [{"filename": path.name} for path in place.iterdir() if path.is_file()]
    except OSError:
        return []


def _anchors(page: str) -> list[dict[str, Any]]:
    from html.parser import HTMLParser

    files: list[dict[str, Any]] = []

    class Anchors(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            known = dict(attrs)
            href = known.get("href")
            if tag == "a" and href:
                path = urllib.parse.unquote(urllib.parse.urlsplit(href).path)
                file: dict[str, Any] = {"filename": path.rsplit("/", 1)[-1]}
                if "data-yanked" in known:
                    file["yanked"] = known["data-yanked"] or True
                if known.get("data-requires-python"):
                    file["requires-python"] = known["data-requires-python"]
                files.append(file)

    Anchors().feed(page)
    return files


def _version_of(filename: str, name: str) -> Version | None:
    try:
        if filename.endswith(".whl"):
            project, version, _, _ = parse_wheel_filename(filename)
        else:
            project, version = parse_sdist_filename(filename)
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None
    return version if project == name else None


def _credentials(url: str) -> str:
    import base64
    import netrc

    parts = urllib.parse.urlsplit(url)
    user, password = parts.username, parts.password or ""
    if user is None:
        try:
            entry = netrc.netrc().authenticators(parts.hostname or "")
        except (OSError, netrc.NetrcParseError):
            entry = None
        if entry is None:
            return ""
        user, password = entry[0], entry[2] or ""
    plain = f"{urllib.parse.unquote(user)}:{urllib.parse.unquote(password)}"
    return base64.b64encode(plain.encode()).decode()


def _tls() -> ssl.SSLContext:
    import ssl

    named = os.environ.get("SSL_CERT_FILE") or _pip_conf(os.environ).get("cert")
    return ssl.create_default_context(cafile=named if named and os.path.isfile(named) else None)


def _words(text: str | None) -> list[str]:
    return shlex.split(text) if text else []


def _pip_conf(env: Mapping[str, str]) -> dict[str, str]:
    """Return pip's settings about indexes, the strongest source last to be read."""
    named = env.get("PIP_CONFIG_FILE")
    home = Path(env.get("HOME") or Path.home())
    config = Path(env.get("XDG_CONFIG_HOME") or home / ".config")
    places: Iterable[Path] = (
        Path("/etc/xdg/pip/pip.conf"),
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        config / "pip" / "pip.conf",
        Path(sys.prefix) / "pip.conf",
        *([Path(named)] if named else []),
    )
    if named == os.devnull:
        places = ()
    settings: dict[str, str] = {}
    for place in places:
        parser = configparser.RawConfigParser()
        try:
            parser.read(place, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                settings.update(parser.items(section))
    for key in ("index-url", "extra-index-url", "find-links", "no-index", "cert"):
        value = env.get("PIP_" + key.upper().replace("-", "_"))
        if value:
            settings[key] = value
    relevant = ("index-url", "extra-index-url", "find-links", "no-index", "cert")
    return {key: value for key, value in settings.items() if key in relevant and value}


def _uv_toml(env: Mapping[str, str]) -> dict[str, Any]:
    """Return uv's settings about indexes; none on Python 3.10, which cannot read TOML."""
    try:
        import tomllib  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return {}

    home = Path(env.get("HOME") or Path.home())
    config = Path(env.get("XDG_CONFIG_HOME") or home / ".config")
    named = env.get("UV_CONFIG_FILE")
    places = [Path(named)] if named else [config / "uv" / "uv.toml", Path("/etc/uv/uv.toml")]
    for place in places:
        try:
            plain = tomllib.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        indexes = plain.get("index", [])
        pip = plain.get("pip", {})
        main = [entry["url"] for entry in indexes if entry.get("default")]
        return {
            "main": (main or [plain.get("index-url") or pip.get("index-url") or ""])[0],
            "more": [entry["url"] for entry in indexes if not entry.get("default")]
            + plain.get("extra-index-url", []),
            "links": plain.get("find-links", []),
        }
    return {}
