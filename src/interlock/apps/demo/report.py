"""The demo's report: `.interlock/demo/report.json`, and what of its promises was not kept.

Pure. Seconds are reported and not judged: a busy machine must not turn the demo red.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from interlock.base.clock import NS_PER_S


def release_row(
    line: Mapping[str, Any], commit_ns: int, end_ns: int, failures: Iterable[Sequence[Any]]
) -> dict[str, Any]:
    """One release of the report.

    Args:
        line: the rollout as `interlock rollout list` has it.
        commit_ns: when the push to main had returned.
        end_ns: when its rollout had ended.
        failures: (time_ns, kind) of every failed request.
    """
    majority = line["majority_ns"]
    return {
        "version": line["version"],
        "outcome": line["outcome"],
        "reason": line["reason"],
        "caught_in": line["caught_in"],
        "commit_to_majority_s": round((majority - commit_ns) / NS_PER_S, 3) if majority else None,
        "breach_to_champion_s": line["breach_to_champion_s"],
        "failed_requests": sum(1 for at, _ in failures if commit_ns <= at <= end_ns),
    }


def unmet(report: Mapping[str, Any], expected: Mapping[str, str]) -> list[str]:
    """Every promise that was not kept, in words; empty: all were.

    Args:
        report: the whole report.
        expected: version -> outcome.
    """
    outcomes = {row["version"]: row for row in report["releases"]}
    found = [_outcome(version, wanted, outcomes.get(version)) for version, wanted in expected.items()]
    requests = report["requests"]
    found += [
        None if requests["answered"] else "no request was answered",
        None if not requests["failed"] else f"{requests['failed']} requests failed",
        _same(requests),
        None if report["audit"]["verified"] else "the audit log was not verified",
        None if report["decision"]["proven"] else "the decision was not proven",
        None if report["decision"]["vector_recomputed"] else "the decision's vector was not recomputed bit for bit",
        None if report["decision"]["score_recomputed"] else "the decision's score was not recomputed bit for bit",
    ]
    return [problem for problem in found if problem]


def _outcome(version: str, wanted: str, row: Mapping[str, Any] | None) -> str | None:
    if row is None:
        return f"{version} was never released"
    if row["outcome"] != wanted:
        reason = f" ({row['reason']})" if row["reason"] else ""
        return (
            f"{version} should have been {wanted.replace('_', ' ')}, and was {row['outcome'].replace('_', ' ')}{reason}"
        )
    return None


def _same(requests: Mapping[str, int]) -> str | None:
    lost = requests["sent"] - requests["answered"] - requests["failed"]
    return f"{lost} requests were neither answered nor failed" if lost else None
