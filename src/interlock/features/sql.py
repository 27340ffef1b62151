"""The predicate of `definition` as SQL, generated from a velocity (DuckDB's dialect).

Input table `events(entity, seq, event_ms, amount)`: one row per event, `seq` the entity's applied
sequence. Output: `entity, seq, c0, s0, c1, s1, …`: per window the count and the sum that the
event saw. Two forms of the same predicate:

- `ordered`: for entities whose event times never go back. Then the late-event conditions are
  void, and a RANGE frame over tiles counts in O(n log n); rows of the event's own tile that come
  after it (or are it) are taken away again.
- `general`: for all others; a self-join with the predicate written out.
"""

from __future__ import annotations

from interlock.features.definition import Velocity


def value_names(velocity: Velocity) -> list[str]:
    """Output columns after `entity, seq`."""
    return [f"{letter}{i}" for i in range(len(velocity.windows)) for letter in ("c", "s")]


def ordered(velocity: Velocity) -> str:
    """For entities in order."""
    tiles = ", ".join(f"event_ms // {w.hop_seconds * 1000} AS tile{i}" for i, w in enumerate(velocity.windows))
    columns: list[str] = []
    frames: list[str] = []
    for i, window in enumerate(velocity.windows):
        span = window.seconds // window.hop_seconds
        columns.append(f"CAST(count(*) OVER wide{i} - count(*) OVER same{i} AS BIGINT) AS c{i}")
        columns.append(f"CAST(sum(amount) OVER wide{i} - sum(amount) OVER same{i} AS BIGINT) AS s{i}")
        frames.append(
            f"wide{i} AS (PARTITION BY entity ORDER BY tile{i} RANGE BETWEEN {span} PRECEDING AND CURRENT ROW)"
        )
        frames.append(
            f"same{i} AS (PARTITION BY entity, tile{i} ORDER BY seq ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)"
        )
    return (  # identifiers and integers come from the definition alone
        f"WITH tiled AS (SELECT entity, seq, amount, {tiles} FROM events)\n"  # noqa: S608
        f"SELECT entity, seq, {', '.join(columns)} FROM tiled\n"
        f"WINDOW {', '.join(frames)}"
    )


def general(velocity: Velocity) -> str:
    """For entities with late events: the predicate written out."""
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
