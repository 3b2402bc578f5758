"""What a person at a terminal reads."""

from harness.report.terminal import (
    failure_text,
    grid_lines,
    lines,
    seen,
    summary_line,
    verdict_table,
)
from harness.report.text import clean, counted, listed, one_line, shortened

from .report_samples import info, report, result


def test_table_lists_each_run_with_its_verdict_and_what_was_seen():
    found = lines(verdict_table(report({"1.3.0": "bug", "1.4.0": "ok"})), width=120)
    assert [line.split()[:4] for line in found] == [
        ["N05", "reproduced", "nest-asyncio", "1.3.0,"],
        ["bug:", "AssertionError:", "lost"],
        ["N05", "healthy", "nest-asyncio", "1.4.0,"],
    ]


def test_table_shows_markup_as_text_and_colours_only_when_asked():
    marked = report({"1.3.0": "bug"}, title="[red]loop[/red] \x1b[31mlost\x07")
    text = "\n".join(lines(verdict_table(marked), width=120))
    assert "[red]loop[/red] lost\\x07" in text
    assert "\x1b" not in text
    assert "\x1b" in "\n".join(lines(verdict_table(marked), width=120, colour=True))


def test_table_keeps_to_its_width():
    assert max(map(len, lines(verdict_table(report({"1.3.0": "bug"})), width=60))) <= 60


def test_pass_without_evidence_says_so():
    from dataclasses import replace

    from harness.outcome import Verdict

    found = replace(result("ok", "1.0"), verdict=Verdict.INCONCLUSIVE)
    assert seen(found) == "healthy: nothing shows that this scenario can fail"


def test_summary_counts_runs_and_verdicts():
    counted_line = summary_line(report({"1.3.0": "bug", "1.4.0": "ok", "1.5.0": "new"}))
    assert counted_line == "3 runs of 1 scenario: 1 reproduced, 1 healthy, 1 regression"


def test_grid_has_a_mark_for_each_cell_and_a_legend_of_those_that_occur():
    rows = {"1.2": "ok ok", "1.3": "bug hang", "1.4": "n/a ok"}
    assert grid_lines(report(rows, "3.8.18", "3.12.1")) == [
        "N05  The current loop is changed",
        "                    3.8.18  3.12.1",
        "  nest-asyncio 1.2    .       .",
        "  nest-asyncio 1.3    B       H",
        "  nest-asyncio 1.4    -       .",
        ". healthy  B bug  H hang  - not-applicable",
    ]


def test_colour_moves_no_column_of_the_grid():
    plain = grid_lines(report({"1.2": "ok bug"}, "3.8.18", "3.12.1"))
    coloured = grid_lines(report({"1.2": "ok bug"}, "3.8.18", "3.12.1"), colour=True)
    assert [clean(line) for line in coloured] == plain
    assert coloured != plain


def test_failure_tells_what_broke_then_how_to_replay_it():
    text = failure_text(info(), result("new", "1.5.0", detail="Traceback\x00", output="printed"))
    assert text.splitlines() == [
        "N05 regression with nest-asyncio 1.5.0, Python 3.11.7: bug: AssertionError: lost",
        "  The current loop is changed",
        "replay: harness matrix N05 --python 3.11.7",
        "expected: healthy; the bug is known in nest-asyncio>=1.3,<1.4",
        "source: https://example.org/issues/28",
        "",
        "evidence:",
        "Traceback\\x00",
        "",
        "output:",
        "printed",
    ]


# Text


def test_control_characters_are_written_out():
    assert clean("a\x1b[1;31mred\x1b[0m\r\nb\tc\x00\x1b]0;title\x07\u202e\udc80\x85") == (
        "ared\nb\tc\\x00\\x1b]0;title\\x07\\u202e\\udc80\\x85"
    )


def test_one_line_is_one_line_and_no_longer_than_asked():
    assert one_line("a\n b\t\x00") == "a b \\x00"
    assert one_line("x" * 300, 10) == "xxxxxxx..."


def test_shortened_text_keeps_both_ends_and_says_what_is_gone():
    text = "\n".join(f"line {number}" for number in range(1000))
    short = shortened(text, 400)
    assert short.startswith("line 0\n")
    assert short.endswith("line 999")
    assert "characters cut" in short
    assert len(short) < 450
    assert shortened("short", 400) == "short"
    assert len(shortened("x" * 1000, 400)) < 450


def test_words_are_joined_and_counted_as_a_sentence_does():
    assert listed([]) == ""
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert counted(1, "cell") == "1 cell"
    assert counted(0, "cell") == "0 cells"
