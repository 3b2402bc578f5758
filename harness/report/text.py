"""Text that came out of a scenario, made safe to show: nothing in it acts, nothing is lost."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ANSI_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
# Control characters, lone surrogates, noncharacters, and what turns the direction of text: XML and
# UTF-8 refuse some of them, a terminal obeys others, and the last make a script read as another.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff\ufdd0-\ufdef\ufeff\ufffe\uffff]"
)
#: How much of one captured text a person is shown; the JSON form keeps what the run kept.
LONGEST = 20_000


def clean(text: str) -> str:
    """Return text with colours removed and every other control character written out as ``\\x1b``.

    Newlines and tabs stay.
    """
    plain = _ANSI_COLOUR.sub("", text).replace("\r\n", "\n")
    return _UNSAFE.sub(_written_out, plain)


def one_line(text: str, longest: int = 200) -> str:
    """Return text on one line, cut to a number of characters."""
    flat = " ".join(clean(text).split())
    return flat if len(flat) <= longest else flat[: longest - 3].rstrip() + "..."


def shortened(text: str, longest: int = LONGEST) -> str:
    """Cut the middle out of a long text at line ends, saying how much is gone.

    The end is where a traceback says what happened, so it gets most of the room.
    """
    if len(text) <= longest:
        return text
    head, tail = longest // 4, longest - longest // 4
    start = text[:head].rpartition("\n")[0] or text[:head]
    end = text[-tail:].partition("\n")[2] or text[-tail:]
    return f"{start}\n[... {len(text) - len(start) - len(end)} characters cut ...]\n{end}"


def listed(names: Sequence[str]) -> str:
    """Join names the way a sentence does: ``a, b and c``."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def counted(number: int, noun: str) -> str:
    """Return ``1 cell`` or ``2 cells``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _written_out(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
