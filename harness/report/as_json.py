"""The JSON form, whose published description is ``schema.json`` beside this module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.report.model import Report

_SCHEMA = Path(__file__).with_name("schema.json")


def as_json(report: Report) -> str:
    """Return the report as JSON text, for standard output."""
    return report.to_text()


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a report."""
    loaded: dict[str, Any] = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    return loaded
