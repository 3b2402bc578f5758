"""Join the reports of shards and machines into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.errors import HarnessError
from harness.outcome import Verdict
from harness.report.grid import word
from harness.report.model import Report, Result, ScenarioInfo


def merge(reports: Sequence[Report]) -> Report:
    """Join reports; of a cell that several hold with the same outcome, the newest is kept.

    A cell whose outcome differs between them becomes inconclusive, with the evidence of both.

    :param reports: at least one
    :raises HarnessError: if a scenario is not the same in all of them
    """
    ordered = sorted(reports, key=lambda report: report.created)
    infos: dict[str, ScenarioInfo] = {}
    results: dict[tuple[str, str, str, str, str], Result] = {}
    environment: dict[str, list[str]] = {}
    for report in ordered:
        for info in report.scenarios:
            known = infos.get(info.id, info)
            if known.body != info.body:
                raise HarnessError(
                    f"scenario {info.id!r} is not the same function in all reports, so its "
                    "results do not belong together; run the older ones again"
                )
            infos[info.id] = info
        for result in report.results:
            before = results.get(result.cell)
            results[result.cell] = result if before is None else _joined(before, result)
        for name, value in report.environment.items():
            values = environment.setdefault(name, [])
            if value not in values:
                values.append(value)
    return Report(
        {name: "; ".join(values) for name, values in environment.items()},
        tuple(infos.values()),
        tuple(results.values()),
        ordered[-1].created,
    )


def _joined(before: Result, after: Result) -> Result:
    if word(before) == word(after):
        return after
    evidence = "\n\n".join(
        f"{word(one)}: {one.observation.message}\n{one.observation.detail}".rstrip()
        for one in (before, after)
    )
    message = f"the reports differ: {word(before)} in one, {word(after)} in another"
    observation = replace(after.observation, message=message, detail=evidence)
    return replace(after, verdict=Verdict.INCONCLUSIVE, observation=observation)
