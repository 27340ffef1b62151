"""The predicate of `definition` as SQL, generated from a velocity (DuckDB's dialect).

Input table `events(entity, seq, event_ms, amount)`: one row per event, `seq` the entity's applied
sequence. Output: `entity, seq, c0, s0, c1, s1, …`: per window the count and the sum that the
event saw: a self-join with the predicate written out, for entities with late events (for the others
`offline` counts faster).
"""

from __future__ import annotations

from interlock.features.definition import Velocity


def value_names(velocity: Velocity) -> list[str]:
    """Output columns after `entity, seq`."""
    return [f"{letter}{i}" for i in range(len(velocity.windows)) for letter in ("c", "s")]


def general(velocity: Velocity) -> str:
    """The query."""
    columns: list[str] = []
    for i, window in enumerate(velocity.windows):
        hop = window.hop_seconds * 1000
        kept = (window.seconds + velocity.lateness_s) * 1000
        inside = (
            f"e.event_ms // {hop} BETWEEN greatest((q.event_ms - {window.seconds * 1000}) // {hop}, "
            f"(q.high_ms - {kept}) // {hop}) AND q.event_ms // {hop}"
        )
        columns.append(f"CAST(count(e.seq) FILTER ({inside}) AS BIGINT) AS c{i}")
        columns.append(f"CAST(coalesce(sum(e.amount) FILTER ({inside}), 0) AS BIGINT) AS s{i}")
    longest = max(w.seconds + w.hop_seconds for w in velocity.windows) * 1000
    return (
        "WITH placed AS (SELECT *, coalesce(max(event_ms) OVER (PARTITION BY entity ORDER BY seq "  # noqa: S608
        "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS high_ms FROM events)\n"
        f"SELECT q.entity, q.seq, {', '.join(columns)}\n"
        "FROM placed q LEFT JOIN placed e ON e.entity = q.entity AND e.seq < q.seq "
        f"AND e.event_ms >= q.event_ms - {longest}\n"
        "GROUP BY q.entity, q.seq"
    )
