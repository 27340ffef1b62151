"""What the variants of a rollout did, as people and programs read it: decisions counted per arm and segment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from interlock.apps.views import rollout as view
from interlock.base.errors import UsageError
from interlock.decision.archive import Archive
from interlock.rollout import journal
from interlock.rollout.outcomes import Variant, tabulate
from interlock.rollout.states import State
from interlock.rollout.values import Rollout
from interlock.trust.event import Event


def outcomes(
    events: Sequence[Event], archive: Archive, wanted: str, by: str = "all", labels: Mapping[str, bool] | None = None
) -> dict[str, Any]:
    """Both variants of one rollout, while its canary or experiment shared the traffic.

    Args:
        events: as `views.rollout.read` gives them.
        archive: the home's decisions.
        wanted: a rollout's id, its beginning, or `last`.
        by: how segments are told apart (`rollout.outcomes.SEGMENTS`).
        labels: decision id to whether it was fraud.

    Raises:
        UsageError: no such rollout, one that never shared the traffic, or an unknown `by`.
    """
    rollout = journal.rollouts(events)[view.story(events, wanted)["id"]]
    generations, since_ns = _compared(events, rollout)
    if not generations:
        raise UsageError("this rollout never shared the traffic", "ask for one that came as far as canary")
    records = archive.records(since_ns, rollout.ended_ns or None)
    found = tabulate(records, rollout.service, generations, by, labels)
    experiment = rollout.plan.experiment if rollout.plan else None
    return {
        "rollout": rollout.id,
        "service": rollout.service,
        "state": rollout.state.value,
        "candidate": rollout.version,
        "champion": rollout.champion.version if rollout.champion else None,
        "outcome": experiment.outcome if experiment else None,
        "by": by,
        "variants": [{"segment": segment, "arm": arm, **_plain(each)} for (segment, arm), each in found.items()],
    }


def _compared(events: Sequence[Event], rollout: Rollout) -> tuple[set[int], int]:
    """The generations under which the canary's arms met, and when the first began."""
    generations: set[int] = set()
    since_ns = 0
    for event in events:
        if event.type not in journal.ENTRIES:
            continue
        entry = journal.parse(event)
        if entry.rollout.id == rollout.id and entry.rollout.state is State.CANARY and entry.rollout.shape == "split":
            generations.add(entry.rollout.generation)
            since_ns = since_ns or entry.at_ns
    return generations, since_ns


def _plain(variant: Variant) -> dict[str, Any]:
    rate, low, high = (round(each, 6) for each in variant.flag_rate)
    return {**vars(variant), "flag_rate": rate, "flag_rate_low": low, "flag_rate_high": high}
