"""The story's page links what there is, and leaves no point of it without an answer."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from harness.selection import select

ROOT = Path(__file__).parents[2]
STORY = (ROOT / "docs" / "story.md").read_text(encoding="utf-8")
PLACES = {
    record.id: Path(inspect.getfile(record.function)).relative_to(ROOT)
    for record in select([str(ROOT / "scenarios")])
}


def rows() -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in STORY.splitlines() if line.startswith("| ")][
        2:
    ]


def test_every_link_leads_to_the_file_of_its_scenario() -> None:
    links = re.findall(r"\[(\w+)\]\(\.\./(scenarios/[^)]+)\)", STORY)
    assert len(links) > 80
    assert [link for link in links if str(PLACES.get(link[0])) != link[1]] == []


def test_all_eighteen_points_are_there() -> None:
    numbers = [int(row[0]) for row in rows() if row[0].isdigit()]
    assert numbers == list(range(1, 19))


def test_every_point_has_a_way_that_fails_and_one_that_works() -> None:
    for row in rows():
        fails, works = row[-2:]
        assert re.search(r"\[\w+\]\(", fails), row
        assert re.search(r"\[\w+\]\(", works), row
