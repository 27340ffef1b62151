"""The arithmetic of the rollout bench: from journals and failures to rows, quantiles and bars. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from interlock.base.clock import NS_PER_S
from interlock.rollout.journal import Entry
from interlock.rollout.values import Admitted, Effect, Outcome, Rollout

PARTS = ("seen", "checked", "loaded", "exposed", "first share", "majority")
"""The instants of a rollout, in their order; the part of a name is what led up to it."""


def percentile(values: Iterable[float], share: float) -> float | None:
    """The nearest rank, or None of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def quantiles(values: Iterable[float | None]) -> dict[str, float | None]:
    """p50 and p95 of what is known."""
    known = [value for value in values if value is not None]
    return {"p50": percentile(known, 0.5), "p95": percentile(known, 0.95)}


def instants(entries: Sequence[Entry]) -> dict[str, int]:
    """When things happened in a rollout, in nanoseconds of the wall clock; what did not is left out.

    `seen`: the controller began it; `checked`: its admission stands; `loaded`: every worker has the candidate;
    `exposed`: it first meets live traffic (as a shadow, where there is one); `first share`: it first answers;
    `majority`: every worker routes most of the traffic to it; `verdict`: a guard failed, or somebody went back;
    `champion`: all traffic is the champion's again.
    """
    found: dict[str, int] = {"seen": entries[0].rollout.started_ns}
    before: Rollout | None = None
    for entry in entries:
        if isinstance(entry.seen, Admitted):
            found["checked"] = entry.at_ns
        effect = _ended(before, entry)
        if effect is not None and effect.kind == "set_route":
            if effect.shape in ("shadow", "split"):
                found.setdefault("exposed", entry.at_ns)
            if effect.shape == "split":
                found.setdefault("first share", entry.at_ns)
        before = entry.rollout
    last = entries[-1].rollout
    known = {
        "loaded": last.loaded_ns,
        "majority": last.majority_ns,
        "verdict": last.breach_ns,
        "champion": last.champion_ns,
        "ended": last.ended_ns,
    }
    return found | {name: at for name, at in known.items() if at}


def _ended(before: Rollout | None, entry: Entry) -> Effect | None:
    """The effect whose good end this entry records."""
    if before is None or not isinstance(entry.seen, Outcome) or not entry.seen.ok:
        return None
    return next((effect for effect in before.pending if effect.n == entry.seen.n), None)


def between(at: Mapping[str, int], first: str, then: str) -> float | None:
    """Seconds between two instants, where both happened."""
    return round((at[then] - at[first]) / NS_PER_S, 3) if first in at and then in at else None


def row(
    what: Mapping[str, Any], entries: Sequence[Entry], commit_ns: int, failures: Iterable[Sequence[Any]]
) -> dict[str, Any]:
    """One rollout of the report.

    Args:
        what: its version, kind and expected outcome.
        entries: its journal.
        commit_ns: when the push to main had returned.
        failures: (time_ns, kind) of every failed request.
    """
    at = {"commit": commit_ns, **instants(entries)}
    last = entries[-1].rollout
    end = at.get("ended", commit_ns)
    present = [name for name in ("commit", *PARTS) if name in at]
    return {
        **what,
        "outcome": last.state.value,
        "caught_in": last.caught_in or None,
        "reason": last.reason or None,
        "by": last.actor or None,
        "commit_to_majority_s": between(at, "commit", "majority"),
        "breach_to_champion_s": between(at, "verdict", "champion"),
        "exposure_to_verdict_s": between(at, "exposed", "verdict"),
        "first_share_to_verdict_s": between(at, "first share", "verdict"),
        "commit_to_end_s": between(at, "commit", "ended"),
        "tau_us": None if last.tau_ns is None else round(last.tau_ns / 1000, 1),
        "parts_s": {then: between(at, first, then) for first, then in pairwise(present)},
        "failed_requests": sum(1 for when, _ in failures if commit_ns <= int(when) <= end),
    }


def parts(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """p50 and p95 of each part of the time from commit to majority."""
    held = [each["parts_s"] for each in rows if each["commit_to_majority_s"] is not None]
    return {name: quantiles(each.get(name) for each in held) for name in PARTS}


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of the rollouts in a row."""
    return {
        "rollouts": len(rows),
        "failed_requests": sum(each["failed_requests"] for each in rows),
        "commit_to_majority_s": quantiles(each["commit_to_majority_s"] for each in rows),
        "hard_breach_to_champion_s": quantiles(
            each["breach_to_champion_s"] for each in rows if each["expected"] == "rolled_back"
        ),
    }


def as_expected(each: Mapping[str, Any]) -> bool:
    """Whether a rollout ended as it should: a supervisor that goes back first is a rollback too."""
    wanted = {"rolled_back": ("rolled_back", "retreated")}.get(each["expected"], (each["expected"],))
    return each["outcome"] in wanted


def detected(each: Mapping[str, Any], guard: str, since: str) -> float | None:
    """Seconds until a guard caught a rollout; None: it did not, or something else did first."""
    if guard not in (each["reason"] or "").split(", ") or not as_expected(each):
        return None
    found: float | None = each[f"{since}_to_verdict_s"]
    return found


def bar(name: str, target: str, achieved: Any, met: bool) -> dict[str, Any]:
    """One line of `bars`."""
    return {"name": name, "target": target, "achieved": achieved, "met": bool(met)}


def bars(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every promise of the page, and whether this run kept it."""
    majority, back, aa = result["commit_to_majority_s"], result["hard_breach_to_champion_s"], result["aa"]
    wrong = [each["version"] for each in result["rows"] if not as_expected(each)]
    world = result.get("world")
    lives = (
        []
        if world is None
        else [bar("promises broken in the simulated world", "0", world["violations"], not world["violations"])]
    )
    return [
        *lives,
        bar("commit to majority, p50", "<= 5 s", majority["p50"], _most(majority["p50"], 5.0)),
        bar("commit to majority, p95", "<= 8 s", majority["p95"], _most(majority["p95"], 8.0)),
        bar("hard breach to the champion, p95", "<= 2 s", back["p95"], _most(back["p95"], 2.0)),
        bar("failed requests", "0", result["failed_requests"], result["failed_requests"] == 0),
        bar(
            "rollouts that ended as they should",
            "all",
            f"{len(result['rows']) - len(wrong)} of {len(result['rows'])}",
            not wrong,
        ),
        bar(
            "20 % more latency is caught",
            "caught",
            result["latency_regression_detect_s"],
            result["latency_regression_detect_s"] is not None,
        ),
        bar(
            "ten times the flags are caught",
            "caught",
            result["flag_tenfold_detect_s"],
            result["flag_tenfold_detect_s"] is not None,
        ),
        bar(
            "A/A rollouts that settled",
            "all",
            f"{aa['settled']} of {aa['rollouts']}",
            aa["settled"] == aa["rollouts"] > 0,
        ),
    ]


def _most(value: float | None, limit: float) -> bool:
    return value is not None and value <= limit


def added(halves: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sums of counts by name."""
    total: Counter[str] = Counter()
    for half in halves:
        total.update(half)
    return dict(total)


def same_again(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of the rollouts of the same model."""
    return {
        "rollouts": len(rows),
        "settled": sum(each["outcome"] == "settled" for each in rows),
        "rolled_back": sum(each["outcome"] in ("rolled_back", "retreated") for each in rows),
        "failed_requests": sum(each["failed_requests"] for each in rows),
        "commit_to_end_s": quantiles(each["commit_to_end_s"] for each in rows),
        "rows": list(rows),
    }
