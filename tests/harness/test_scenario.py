"""harness.scenario: the record of a scenario, and where it says its bug is."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import HarnessError
from harness.scenario import Scenario, record_of, scenario

PYTHON_311 = {"python_version": "3.11", "python_full_version": "3.11.7", "sys_platform": "linux"}
PYTHON_36 = {**PYTHON_311, "python_version": "3.6", "python_full_version": "3.6.15"}


async def body() -> None: ...


def record(**fields: Any) -> Scenario:
    async def function() -> None: ...

    made = record_of(scenario(**{"id": "X1", "title": "t", "source": "s", **fields})(function))
    assert made is not None
    return made


def test_the_function_comes_back_as_it_is() -> None:
    async def function() -> None: ...

    assert scenario(id="X1", title="t", source="s")(function) is function


def test_a_function_without_a_record_is_no_scenario() -> None:
    assert record_of(body) is None


def test_present_is_a_range_of_releases() -> None:
    made = record(present=["nest-asyncio>=1.3,<1.4.0"])
    assert made.is_present({"nest-asyncio": "1.3.3"}, PYTHON_311)
    assert not made.is_present({"nest-asyncio": "1.4.0"}, PYTHON_311)
    assert not made.is_present({}, PYTHON_311)


def test_a_marker_narrows_present_to_interpreters() -> None:
    made = record(present=["nest-asyncio>=1.3; python_version >= '3.7'"])
    assert made.is_present({"nest-asyncio": "1.6.0"}, PYTHON_311)
    assert not made.is_present({"nest-asyncio": "1.6.0"}, PYTHON_36)


def test_a_marker_alone_is_a_bug_of_python() -> None:
    made = record(present=["python_version < '3.7'"])
    assert made.library is None
    assert made.is_present({}, PYTHON_36)
    assert not made.is_present({}, PYTHON_311)


def test_several_strings_are_several_intervals() -> None:
    made = record(present=["nest-asyncio==1.5.2", "nest-asyncio>=1.6"])
    found = [r for r in ("1.5.1", "1.5.2", "1.5.3", "1.6.0") if made.is_present({made.library: r})]
    assert found == ["1.5.2", "1.6.0"]


def test_a_prerelease_in_the_range_has_the_bug() -> None:
    assert record(present=["kiwipy>=0.8"]).is_present({"kiwipy": "0.9.0rc1"}, PYTHON_311)


def test_the_library_is_the_one_that_present_names() -> None:
    assert record(present=["Nest_Asyncio<1.6"]).library == "nest-asyncio"


def test_a_guard_is_known_nowhere_and_shows_nothing_by_itself() -> None:
    made = record()
    assert not made.is_present({"nest-asyncio": "1.6.0"}, PYTHON_311)
    assert not made.can_fail


def test_a_planted_defect_lets_a_guard_fail() -> None:
    assert record(planted=lambda: None).can_fail


def test_the_family_is_the_folder() -> None:
    assert record().family == "harness"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"present": ["nest-asyncio => 1"]}, "nest-asyncio => 1"),
        ({"present": ["python_version >> '3'"]}, "python_version >> '3'"),
        ({"present": "nest-asyncio"}, "sequences"),
        ({"id": "no spaces"}, "no spaces"),
        ({"id": "9"}, "'9'"),
        ({"present": ["a<1", "b<1"]}, "a, b"),
        ({"library": "x", "shown_in": ["one"]}, "'one'"),
        ({"shown_in": ["1.0"]}, "library="),
        ({"python": "three"}, "'three'"),
        ({"limit": 0}, "limit is 0"),
    ],
)
def test_a_record_that_cannot_be_true_is_refused_by_name(fields: Any, named: str) -> None:
    with pytest.raises(HarnessError) as caught:
        record(**fields)
    assert named in str(caught.value)
    assert "scenario" in str(caught.value)


def test_a_plain_function_is_refused() -> None:
    with pytest.raises(HarnessError, match="plain is not an 'async def'"):

        @scenario(id="X1", title="t", source="s")
        def plain() -> None: ...  # type: ignore[type-var]
