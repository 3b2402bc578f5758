"""One self-contained page: a heat map to filter, and the evidence of every cell.

The page needs no network and asks for none: its policy forbids it. Whatever a scenario printed
travels as JSON and reaches the page as text only, never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from pathlib import Path
from typing import Any

from harness.outcome import Outcome
from harness.report.grid import Grid, column_labels, release_key, word
from harness.report.model import Report
from harness.report.terminal import MARKS, grid_lines, listed_present, summary_line
from harness.report.text import clean, one_line, shortened
from harness.report.upstream import history

_HERE = Path(__file__).parent
#: How much of a traceback, or of what was printed, a cell shows; the JSON report has it all.
_SHOWN = 6_000


def page(report: Report) -> str:
    """Return the report as an HTML page."""
    style, script = _asset("page.css"), _asset("page.js")
    # '</script' ends a script element wherever it stands, and '<!--' changes how one is read.
    data = json.dumps(_data(report), separators=(",", ":")).replace("<", "\\u003c")
    policy = (
        f"default-src 'none'; script-src 'sha256-{_sha256(script)}'; "
        f"style-src 'sha256-{_sha256(style)}'; base-uri 'none'; form-action 'none'"
    )
    plain = html.escape("\n".join(grid_lines(report, width=400)))
    filled = {
        "policy": policy,
        "style": style,
        "summary": html.escape(summary_line(report)),
        "created": html.escape(one_line(report.created)),
        "plain": plain,
        "data": data,
        "script": script,
    }
    text = _asset("page.html")
    parts = text.split("{{")
    return parts[0] + "".join(
        filled[name] + rest for name, _, rest in (part.partition("}}") for part in parts[1:])
    )


def _data(report: Report) -> dict[str, Any]:
    texts = _Texts()
    labels = column_labels(report.results)
    columns = {key: index for index, key in enumerate(labels)}
    places = sorted(
        {(result.library or "", result.release or "") for result in report.results},
        key=lambda place: (place[0], release_key(place[1])),
    )
    rows = {place: index for index, place in enumerate(places)}
    numbers = {info.id: index for index, info in enumerate(report.scenarios)}
    return {
        "environment": {
            one_line(name): one_line(value, 1000) for name, value in report.environment.items()
        },
        "columns": list(labels.values()),
        "places": places,
        "marks": {name: mark for name, (mark, _) in MARKS.items() if name},
        "bad": [outcome.value for outcome in Outcome if outcome.is_bug],
        "scenarios": [
            {
                "id": info.id,
                "title": one_line(info.title),
                "family": info.family,
                "source": one_line(info.source, 1000),
                "present": listed_present(info),
                "doc": clean(info.doc),
                "body": clean(info.body),
                "history": "\n".join(
                    line.removeprefix("- ")
                    for line in history(Grid.of(report, info.id)).split("\n")
                ),
            }
            for info in report.scenarios
        ],
        # Short rows, because there are tens of thousands of them: page.js names the fields.
        "results": [
            [
                numbers[result.scenario],
                columns[result.python, result.build],
                rows[result.library or "", result.release or ""],
                texts.number(word(result)),
                texts.number(result.verdict.value),
                texts.number(one_line(result.observation.message, 1000)),
                texts.number(shortened(clean(result.observation.detail), _SHOWN)),
                texts.number(shortened(clean(result.observation.output), _SHOWN)),
                result.observation.seconds,
                one_line(result.command, 2000),
            ]
            for result in report.results
        ],
        "texts": texts.all,
    }


class _Texts:
    """Each text once; most cells say what others say."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        if text not in self._numbers:
            self._numbers[text] = len(self.all)
            self.all.append(text)
        return self._numbers[text]


def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
