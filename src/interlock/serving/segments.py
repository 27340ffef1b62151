"""Gives the transactions of one request to the services that decide their segments.

Contract. Routing is one hop: what a service gets from another it decides itself, whatever its own
table says. A segment whose service does not answer here, because it has no table, or none of its
models may answer, stays with the service that was asked, and is counted; it is never an error. A
request is queued as a whole or not at all. The idempotency key is made of the service that was
asked: a retry after the routing changed meets its first reply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from interlock.decision.table import Segments
from interlock.serving.pipeline import Pipeline
from interlock.serving.tick import Row


def submit(asked: Pipeline, rules: Segments, rows: Sequence[Row], services: Mapping[str, Pipeline]) -> None:
    """Queue the transactions of one request, each with the service that decides it.

    Args:
        asked: the service that was called.
        rules: of its table in force.
        rows: of one request; those that another service decides get `asked`.
        services: of this worker.

    Raises:
        Unanswered: a queue is full; then nothing was queued.
    """
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(_decides(asked, rules, row, services), []).append(row)
    for name, part in parts.items():
        services[name].require_room(len(part), part[0].call.urgent)
    for name, part in parts.items():
        services[name].submit(part)


def _decides(asked: Pipeline, rules: Segments, row: Row, services: Mapping[str, Pipeline]) -> str:
    name = rules.services.get(row.inputs.get(rules.field, ""))
    if name is None:
        return asked.service
    target = services.get(name)
    if target is None or not target.answers:
        asked.tallies.unrouted += 1
        return asked.service
    row.asked = asked.service
    return name
