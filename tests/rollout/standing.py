"""Rollouts as the events table holds them, for tests of what people see and ask for."""

from __future__ import annotations

from typing import Any

from tests.world import digest

from interlock.base.clock import NS_PER_S
from interlock.rollout import journal
from interlock.rollout.plan import Plan
from interlock.rollout.states import State
from interlock.rollout.values import Rollout, Target
from interlock.trust.event import NewEvent
from interlock.trust.ports import EventStore

NOW_NS = 1_790_000_000 * NS_PER_S
DAY_NS = 86_400 * NS_PER_S


def rollout(version: str, state: State, service: str = "fraud", **changes: Any) -> Rollout:
    """A rollout of that version in that state; it started, and ended, an hour ago unless said otherwise."""
    folder, then = digest(f"{service}/{version}"), NOW_NS - 3_600 * NS_PER_S
    values: dict[str, Any] = {
        "id": f"{service}-{version}",
        "service": service,
        "commit": digest(version)[7:47],
        "folder": folder,
        "version": version,
        "wish": folder,
        "salt": "00" * 16,
        "started_ns": then,
        "ended_ns": then if state is State.SETTLED else 0,
        "state": state,
        "candidate": Target(version, digest(version), folder, ""),
        "plan": Plan(0, (), 0, 0, 600, {}),
    }
    return Rollout(**{**values, **changes})


def record(store: EventStore, *rollouts: Rollout) -> None:
    """Append the journal's entry of each."""
    for each in rollouts:
        store.append(journal.entry("controller", each, None, each.ended_ns or each.started_ns))


def admitted(store: EventStore, of: Rollout, authors: list[str]) -> None:
    """Append what the gate records of an admission."""
    body = {"service": of.service, "folder": of.folder, "authors": authors}
    store.append(
        NewEvent(
            time_ns=of.started_ns,
            type="release.admitted",
            actor="controller",
            origin="controller",
            object=f"service/{of.service}",
            outcome="success",
            body=body,
        )
    )
