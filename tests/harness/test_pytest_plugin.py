"""harness.pytest_plugin, scenario_items and pytest_results: what a user of pytest sees."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

ALWAYS = "python_version >= '3.6'"
NEVER = "python_version < '3.6'"

INI = "[pytest]\nasyncio_default_fixture_loop_scope = function\n"
HEAD = "import asyncio, os, pytest, unittest\nfrom harness.scenario import scenario\n"


def entry(id: str, present: str | None, *body: str, more: str = "") -> str:
    known = f"({present!r},)" if present else "()"
    record = f"id={id!r}, title='about {id}', source='doc', present={known}, {more}"
    lines = "".join(f"    {line}\n" for line in body)
    return f"@scenario({record})\nasync def test_{id.lower()}():\n{lines}"


FAILS = "assert 1 == 2, 'seen'"
PASSES = "await asyncio.sleep(0)"
HANGS = "await asyncio.get_running_loop().create_future()"


@pytest.fixture
def library(pytester: pytest.Pytester) -> Path:
    """Make an empty folder for the scenarios of one family."""
    pytester.makeini(
        f"{INI}filterwarnings = error\naddopts = --strict-markers -p no:cacheprovider\n"
    )
    return pytester.mkdir("family_one")


def write(library: Path, *entries: str, name: str = "test_some.py") -> None:
    (library / name).write_text(HEAD + "\n".join(entries))


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("--harness-broker=none", *args, timeout=100)


def test_a_known_bug_that_reproduces_passes(pytester: pytest.Pytester, library: Path) -> None:
    write(library, entry("K1", ALWAYS, FAILS))
    result = run(pytester, "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*::test_k1 REPRODUCED*", "K1*reproduced*", "*seen*"])
    assert result.ret == 0


def test_a_known_bug_that_does_not_reproduce_fails(
    pytester: pytest.Pytester, library: Path
) -> None:
    write(library, entry("K1", ALWAYS, PASSES))
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*K1 not-reproduced*", "*replay: pytest *::test_k1*"])
    assert result.ret == 1


def test_an_unknown_bug_is_a_regression(pytester: pytest.Pytester, library: Path) -> None:
    write(library, entry("K1", NEVER, FAILS))
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*K1 regression*AssertionError: seen*"])


def test_health_with_a_bug_known_elsewhere_passes(pytester: pytest.Pytester, library: Path) -> None:
    write(library, entry("K1", NEVER, PASSES))
    result = run(pytester)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["K1*healthy*"])


def test_a_pass_without_evidence_is_inconclusive(pytester: pytest.Pytester, library: Path) -> None:
    write(library, entry("K1", None, PASSES))
    result = run(pytester, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*nothing shows that this scenario can fail*"])
    result.stdout.fnmatch_lines(["1 run of 1 scenario: 1 inconclusive"])


def test_a_scenario_that_cannot_run_fails_as_broken(
    pytester: pytest.Pytester, library: Path
) -> None:
    write(library, entry("K1", ALWAYS, "undefined_name"))
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*broken: NameError*"])


def test_a_skip_in_a_body_is_not_applicable(pytester: pytest.Pytester, library: Path) -> None:
    write(library, entry("K1", ALWAYS, "raise unittest.SkipTest('cannot nest')"))
    result = run(pytester, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*cannot nest*"])


def test_a_hang_or_a_crash_is_a_result_and_the_run_goes_on(
    pytester: pytest.Pytester, library: Path
) -> None:
    write(
        library,
        entry("H1", ALWAYS, HANGS, more="limit=0.5"),
        entry("C1", ALWAYS, "os.abort()"),
        entry("E1", ALWAYS, "os._exit(0)"),
        entry("K1", ALWAYS, FAILS),
    )
    result = run(pytester)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*4 runs of 4 scenarios: 4 reproduced*"])


def test_keyboard_interrupt_of_a_body_is_a_bug(pytester: pytest.Pytester, library: Path) -> None:
    """Ctrl-C does not reach the child: what is raised there is what the scenario shows."""
    write(library, entry("K1", ALWAYS, "raise KeyboardInterrupt"), entry("K2", ALWAYS, FAILS))
    result = run(pytester, "-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*bug: KeyboardInterrupt*"])


def test_parametrized_scenario_is_refused(pytester: pytest.Pytester, library: Path) -> None:
    """A scenario has one script, which is called without arguments."""
    mark = "@pytest.mark.parametrize('n', [1])\n"
    write(library, mark + entry("K1", ALWAYS, FAILS).replace("test_k1()", "test_k1(n)"))
    run(pytester).stdout.fnmatch_lines(["*'K1' is parametrized; write a scenario for each value*"])


def test_an_unknown_hang_shows_its_stacks_and_what_it_printed(
    pytester: pytest.Pytester, library: Path
) -> None:
    write(library, entry("H1", NEVER, "print('on the way')", HANGS, more="limit=0.5"))
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*H1 regression*no end within 0.5 s; waits at test_some.py:6 in test_h1*"]
    )
    result.stdout.fnmatch_lines(["*in test_h1", "*on the way*"])


def test_what_a_scenario_does_to_its_process_is_gone_afterwards(
    pytester: pytest.Pytester, library: Path
) -> None:
    write(
        library,
        entry("K1", NEVER, "asyncio.SPOILED = True", "os.environ['SPOILED'] = '1'"),
        entry(
            "K2",
            NEVER,
            "assert not hasattr(asyncio, 'SPOILED')",
            "assert 'SPOILED' not in os.environ",
        ),
    )
    run(pytester, "-p", "no:randomly").assert_outcomes(passed=2)


def test_warnings_are_errors_of_pytest_and_not_of_a_body(
    pytester: pytest.Pytester, library: Path
) -> None:
    write(library, entry("K1", NEVER, "import warnings", "warnings.warn('only a warning')"))
    run(pytester, "-W", "error").assert_outcomes(passed=1)


def test_a_plugin_for_async_tests_makes_no_difference(
    pytester: pytest.Pytester, library: Path
) -> None:
    write(library, entry("K1", ALWAYS, FAILS))
    for mode in ("auto", "strict"):
        run(pytester, "-o", f"asyncio_mode={mode}").assert_outcomes(passed=1)
    unknown = "ignore:Unknown config option"
    run(pytester, "-p", "no:asyncio", "-W", unknown).assert_outcomes(passed=1)


def test_ordinary_tests_beside_scenarios_are_left_alone(
    pytester: pytest.Pytester, library: Path
) -> None:
    write(library, entry("K1", ALWAYS, FAILS), "def test_plain(): pass\n")
    result = run(pytester)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*1 run of 1 scenario: 1 reproduced*"])


def test_exitfirst_stops_at_the_first_contradiction(
    pytester: pytest.Pytester, library: Path
) -> None:
    write(
        library, entry("K1", ALWAYS, FAILS), entry("K2", ALWAYS, PASSES), entry("K3", ALWAYS, FAILS)
    )
    run(pytester, "-x").assert_outcomes(passed=1, failed=1)


def test_last_failed_runs_the_contradictions_again(
    pytester: pytest.Pytester, library: Path
) -> None:
    pytester.makeini(INI)
    write(library, entry("K1", ALWAYS, FAILS), entry("K2", ALWAYS, PASSES))
    run(pytester).assert_outcomes(passed=1, failed=1)
    run(pytester, "--lf").assert_outcomes(failed=1)


@pytest.mark.parametrize("choice", [("-k", "K2"), ("-k", "test_k2"), ("-m", "family_two")])
def test_a_scenario_is_found_by_id_name_and_family(
    pytester: pytest.Pytester, library: Path, choice: tuple[str, str]
) -> None:
    write(library, entry("K1", ALWAYS, FAILS))
    write(pytester.mkdir("family_two"), entry("K2", ALWAYS, FAILS), name="test_other.py")
    run(pytester, *choice).assert_outcomes(passed=1, deselected=1)


def test_xdist_workers_report_every_verdict(pytester: pytest.Pytester, library: Path) -> None:
    pytest.importorskip("xdist")
    write(library, *(entry(f"K{number}", ALWAYS, FAILS) for number in range(4)))
    result = run(pytester, "-n", "2", "--harness-report=out")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*4 runs of 4 scenarios: 4 reproduced*"])
    assert len(json.loads((pytester.path / "out/report.json").read_text())["results"]) == 4


def test_pdb_runs_the_body_in_this_process(pytester: pytest.Pytester, library: Path) -> None:
    write(library, entry("K1", NEVER, "pytest.BODY_RAN_IN = os.getpid()"))
    pytester.makeconftest(
        "import os, pytest\n"
        "def pytest_sessionfinish():\n"
        "    assert getattr(pytest, 'BODY_RAN_IN', None) == os.getpid()\n"
    )
    result = run(pytester, "--pdb")
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    assert run(pytester).ret != 0


def test_the_report_holds_environment_verdicts_and_evidence(
    pytester: pytest.Pytester, library: Path
) -> None:
    write(library, entry("K1", ALWAYS, FAILS), entry("K2", NEVER, PASSES))
    result = run(pytester, "--harness-report=out/deep")
    result.stdout.fnmatch_lines(["report: out/deep/report.md"])
    data = json.loads((pytester.path / "out/deep/report.json").read_text())
    verdicts = {one["scenario"]: one["verdict"] for one in data["results"]}
    assert verdicts == {"K1": "reproduced", "K2": "healthy"}
    text = (pytester.path / "out/deep/report.md").read_text()
    assert "AssertionError: seen" in text
    assert sys.version.split()[0] in text


def test_a_report_directory_that_cannot_be_made_is_one_clear_message(
    pytester: pytest.Pytester, library: Path
) -> None:
    write(library, entry("K1", ALWAYS, FAILS))
    pytester.makefile("", in_the_way="")
    result = run(pytester, "--harness-report=in_the_way/deep")
    result.stdout.fnmatch_lines(["report not written: *in_the_way/deep*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert result.ret != 0


def test_the_list_names_every_scenario_and_runs_none(
    pytester: pytest.Pytester, library: Path
) -> None:
    write(library, entry("K1", ALWAYS, "open('ran', 'w')"), entry("K2", None, PASSES))
    result = run(pytester, "--harness-list")
    result.stdout.fnmatch_lines(
        ["K1  family_one: about K1*python_version*", "K2  family_one: about K2*", "2 scenarios"]
    )
    assert not (pytester.path / "ran").exists()
    assert result.ret == 0


def test_an_invalid_record_is_one_clear_message(pytester: pytest.Pytester, library: Path) -> None:
    write(library, entry("K1", "nest-asyncio => 1.3", FAILS))
    result = run(pytester)
    result.stdout.fnmatch_lines(
        ["scenario 'K1': present holds 'nest-asyncio => 1.3', which is not*"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    assert result.ret == 2


def test_an_id_that_is_used_twice_is_refused(pytester: pytest.Pytester, library: Path) -> None:
    write(library, entry("K1", ALWAYS, FAILS), name="test_one.py")
    write(library, entry("K1", ALWAYS, FAILS), name="test_two.py")
    result = run(pytester)
    result.stderr.fnmatch_lines(["*'K1' is used twice, by *test_one.py*and*test_two.py*"])
    assert result.ret == 4


@pytest.mark.parametrize(
    "pin", ["nest-asyncio", "nest-asyncio>=1.3", "nest-asyncio==1.*", "=1.3", "a==1,==2"]
)
def test_a_release_that_is_not_one_release_is_refused(
    pytester: pytest.Pytester, library: Path, pin: str
) -> None:
    write(library, entry("K1", ALWAYS, FAILS))
    result = run(pytester, f"--harness-release={pin}")
    result.stderr.fnmatch_lines([f"*--harness-release is {pin!r}*nest-asyncio==1.3.3*"])
    assert result.ret == 4


def test_a_library_that_is_not_installed_skips_with_the_next_step(
    pytester: pytest.Pytester, library: Path
) -> None:
    write(library, entry("K1", "no-such-library<9", FAILS))
    result = run(pytester, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*no-such-library is not installed; pip install no-such-library*"])


def test_an_interpreter_that_the_record_excludes_skips(
    pytester: pytest.Pytester, library: Path
) -> None:
    write(library, entry("K1", ALWAYS, FAILS, more="python='<3.8'"))
    result = run(pytester, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*K1 runs on Python <3.8*"])


def test_a_fixture_that_fails_is_an_error_and_no_verdict(
    pytester: pytest.Pytester, library: Path
) -> None:
    (library / "conftest.py").write_text(
        "import pytest\n@pytest.fixture\ndef thing(): raise RuntimeError('no thing')\n"
    )
    write(library, entry("K1", ALWAYS, FAILS).replace("test_k1()", "test_k1(thing)"))
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*no thing*"])


def test_coverage_sees_into_the_child(pytester: pytest.Pytester, library: Path) -> None:
    pytest.importorskip("coverage")
    write(library, entry("K1", NEVER, "x = 1", PASSES))
    (pytester.path / ".coveragerc").write_text("[run]\nparallel = true\ninclude = family_one/*\n")
    options = ("-m", "coverage", "run", "-m", "pytest", "--harness-broker=none", "-q")
    assert pytester.run(sys.executable, *options).ret == 0
    assert pytester.run(sys.executable, "-m", "coverage", "combine").ret == 0
    result = pytester.run(sys.executable, "-m", "coverage", "report", "-m")
    result.stdout.fnmatch_lines(["family_one?test_some.py*100%*"])


def test_no_harness_means_no_harness(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_plain(): pass")
    result = pytester.runpytest_subprocess("-p", "no:harness", "-p", "no:asyncio", "-W", "error")
    result.assert_outcomes(passed=1)


def test_the_environment_and_the_ini_file_are_twins_of_the_options(
    pytester: pytest.Pytester, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(library, entry("K1", ALWAYS, FAILS))
    pytester.makeini(f"{INI}harness_report = from_ini\nharness_broker = none\n")
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    monkeypatch.setenv("HARNESS_REPORT", "from_environment")
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    pytester.runpytest_subprocess("--harness-report=from_option").assert_outcomes(passed=1)
    made = sorted(path.parent.name for path in pytester.path.glob("*/report.json"))
    assert made == ["from_environment", "from_ini", "from_option"]


STAND_IN = """
def pytest_addoption(parser):
    parser.addoption("--count", default=1, type=int)


def pytest_configure(config):
    config.addinivalue_line("markers", "repeat(n): run a test n times")
"""


@pytest.fixture
def repeat(pytester: pytest.Pytester) -> list[str]:
    """Return the options that make pytest-repeat active: itself, or what stands in for it."""
    if importlib.util.find_spec("pytest_repeat") is not None:
        return []
    pytester.makepyfile(pytest_repeat=STAND_IN)
    return ["-p", "pytest_repeat"]


def test_count_of_pytest_repeat_makes_each_run_an_item(
    pytester: pytest.Pytester, library: Path, repeat: list[str]
) -> None:
    """Each has a verdict of its own: this one fails in its second run."""
    seen = "assert os.path.getsize('tries') == 2"
    write(
        library,
        entry("K1", ALWAYS, "with open('tries', 'a') as f:\n        f.write('x')", seen),
        entry("K2", ALWAYS, FAILS),
    )
    result = run(pytester, "-v", *repeat, "--count=3", "-k", "K1")
    result.assert_outcomes(passed=2, failed=1, deselected=3)
    result.stdout.fnmatch_lines(
        [
            "*::test_k1[[]1-3[]] REPRODUCED*",
            "*::test_k1[[]2-3[]] NOT-REPRODUCED*",
            "*::test_k1[[]3-3[]] REPRODUCED*",
            "*replay: pytest *--count 3 *::test_k1[[]2-3[]]*",
        ]
    )


def test_count_of_pytest_repeat_works_with_xdist_a_list_and_one_id(
    pytester: pytest.Pytester, library: Path, repeat: list[str]
) -> None:
    write(library, entry("K1", ALWAYS, FAILS), entry("K2", NEVER, PASSES))
    run(pytester, *repeat, "--count=4", "-n", "2").assert_outcomes(passed=8)
    listed = run(pytester, *repeat, "--count=4", "--harness-list")
    listed.stdout.fnmatch_lines(["*K1 *about K1*", "*K2 *about K2*", "2 scenarios"])
    item = "family_one/test_some.py::test_k1[2-4]"
    run(pytester, *repeat, "--count=4", item).assert_outcomes(passed=1)


def test_mark_repeat_beats_the_count(
    pytester: pytest.Pytester, library: Path, repeat: list[str]
) -> None:
    write(
        library, "@pytest.mark.repeat(3)\n" + entry("K1", ALWAYS, FAILS), entry("K2", ALWAYS, FAILS)
    )
    run(pytester, *repeat).assert_outcomes(passed=4)
    run(pytester, *repeat, "--count=2").assert_outcomes(passed=5)


def test_mark_repeat_without_a_number_is_one_clear_message(
    pytester: pytest.Pytester, library: Path, repeat: list[str]
) -> None:
    write(library, "@pytest.mark.repeat\n" + entry("K1", ALWAYS, FAILS))
    result = run(pytester, *repeat)
    result.stdout.fnmatch_lines(["*'K1': the mark repeat needs a number, as in repeat(20)"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_an_option_count_of_another_plugin_repeats_nothing(
    pytester: pytest.Pytester, library: Path
) -> None:
    pytester.makepyfile(other=STAND_IN)
    write(library, entry("K1", ALWAYS, FAILS))
    run(pytester, "-p", "no:repeat", "-p", "other", "--count=3").assert_outcomes(passed=1)


@pytest.fixture
def two_releases(wheels: Any) -> None:
    """Publish a library that was bad in 1.0 and is good in 2.0; neither is installed."""
    wheels.add("shown-lib", "1.0", {"shown_lib.py": "ANSWER = 41\n"})
    wheels.add("shown-lib", "2.0", {"shown_lib.py": "ANSWER = 42\n"})


ASKS = ("import shown_lib", "assert shown_lib.ANSWER == 42, 'wrong answer'")


@pytest.mark.usefixtures("two_releases")
def test_the_releases_that_a_record_shows_run_beside_the_installed_one(
    pytester: pytest.Pytester, library: Path
) -> None:
    write(library, entry("K1", "shown-lib<2", *ASKS, more="shown_in=['1.0', '2.0']"))
    result = run(pytester, "-rA")
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(["*1 reproduced, 1 healthy*"])
    result.stdout.fnmatch_lines(["*test_k1?shown-lib 1.0?*"])
    one = run(pytester, "family_one/test_some.py::test_k1[shown-lib 2.0]")
    one.assert_outcomes(passed=1)
    run(pytester, "--harness-installed-only").assert_outcomes(skipped=1)


@pytest.mark.usefixtures("two_releases")
def test_a_release_that_the_user_names_is_the_only_one_that_runs(
    pytester: pytest.Pytester, library: Path
) -> None:
    write(library, entry("K1", "shown-lib<1", *ASKS, more="shown_in=['2.0']"))
    result = run(pytester, "--harness-release=shown-lib==1.0")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*K1 regression with shown-lib 1.0*wrong answer*"])


@pytest.mark.usefixtures("two_releases")
def test_each_release_is_repeated(
    pytester: pytest.Pytester, library: Path, repeat: list[str]
) -> None:
    write(library, entry("K1", "shown-lib<2", *ASKS, more="shown_in=['1.0', '2.0']"))
    result = run(pytester, "-v", "--count=2", *repeat)
    result.assert_outcomes(passed=4, skipped=2)
    result.stdout.fnmatch_lines(["*::test_k1[[]1-2[]] SKIPPED*"])
    result.stdout.fnmatch_lines(["*::test_k1[[]shown-lib 1.0-2-2[]] REPRODUCED*"])


@pytest.mark.usefixtures("two_releases")
def test_a_release_that_does_not_exist_is_one_clear_message(
    pytester: pytest.Pytester, library: Path
) -> None:
    write(library, entry("K1", "shown-lib<2", *ASKS))
    result = run(pytester, "--harness-release=shown-lib==9.9")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*shown-lib*9.9*"])
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.usefixtures("two_releases")
def test_a_shown_release_that_cannot_be_had_is_no_evidence_of_its_bug(
    pytester: pytest.Pytester, library: Path
) -> None:
    write(library, entry("K1", "shown-lib<2", *ASKS, more="shown_in=['0.5', '1.0']"))
    result = run(pytester)
    result.assert_outcomes(passed=1, failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*K1 inconclusive with shown-lib 0.5*broken: *no release 0.5*"])
    result.stdout.fnmatch_lines(["*1 reproduced, 1 inconclusive*"])


def test_a_shown_release_that_is_not_for_this_python_is_skipped(
    pytester: pytest.Pytester, library: Path, wheels: Any
) -> None:
    wheels.add("old-lib", "1.0", {"old_lib.py": ""}, requires_python=">=3.99")
    write(library, entry("K1", "old-lib<2", "import old_lib", FAILS, more="shown_in=['1.0']"))
    result = run(pytester, "-rs")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["*not-applicable: old-lib==1.0*"])
