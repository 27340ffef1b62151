"""The states of a rollout: one table. What is not listed raises and changes nothing.

The diagram in the documentation is drawn from `TABLE`. Names of events say what happened, not what
to do: `breach` is a guard's verdict, `retreat` a latch that somebody set, `back` the end of going back,
`conclude` the end of an experiment that the champion wins. A hold is one state with several causes
(`values.HOLDS`): they differ in who ends it, never in what a breach does to it.
"""

from __future__ import annotations

from enum import StrEnum

from interlock.base.errors import RefusedError


class State(StrEnum):
    """Where a rollout is."""

    PROPOSED = "proposed"
    CHECKING = "checking"
    LOADING = "loading"
    SHADOW = "shadow"
    CANARY = "canary"
    PROMOTING = "promoting"
    WATCHING = "watching"
    SETTLED = "settled"
    HELD = "held"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"
    SUPERSEDED = "superseded"
    RETREATED = "retreated"
    REOPENED = "reopened"


S = State

_GOING_BACK = {
    "breach": S.ROLLING_BACK,
    "abort": S.ROLLING_BACK,
    "deadline": S.ROLLING_BACK,
    "retreat": S.RETREATED,
    "supersede": S.SUPERSEDED,
}
_HOLDING = {"pause": S.HELD, "blocked": S.HELD, "inconclusive": S.HELD}

TABLE: dict[State, dict[str, State]] = {
    S.PROPOSED: {"begin": S.CHECKING, "supersede": S.SUPERSEDED},
    S.CHECKING: {
        "admitted": S.LOADING,
        "rejected": S.REFUSED,
        "abort": S.REFUSED,
        "deadline": S.REFUSED,
        "supersede": S.SUPERSEDED,
    },
    S.LOADING: {
        **_GOING_BACK,
        "load_failed": S.REFUSED,
        "shadow": S.SHADOW,
        "step": S.CANARY,
        "promote": S.PROMOTING,
    },
    S.SHADOW: {**_GOING_BACK, **_HOLDING, "step": S.CANARY, "promote": S.PROMOTING},
    S.CANARY: {**_GOING_BACK, **_HOLDING, "step": S.CANARY, "promote": S.PROMOTING, "conclude": S.ROLLING_BACK},
    S.PROMOTING: {**_GOING_BACK, "watch": S.WATCHING, "blocked": S.HELD},
    S.WATCHING: {**_GOING_BACK, **_HOLDING, "settle": S.SETTLED},
    S.HELD: {
        **_GOING_BACK,
        "resume_shadow": S.SHADOW,
        "resume_canary": S.CANARY,
        "resume_promoting": S.PROMOTING,
        "resume_watching": S.WATCHING,
    },
    S.ROLLING_BACK: {"back": S.ROLLED_BACK},
    S.RETREATED: {"back": S.ROLLED_BACK},
    S.SETTLED: {"reopen": S.REOPENED},
    S.REOPENED: {"settle": S.SETTLED, "breach": S.ROLLING_BACK, "abort": S.ROLLING_BACK, "retreat": S.RETREATED},
    S.ROLLED_BACK: {},
    S.REFUSED: {},
    S.SUPERSEDED: {},
}

FINAL = frozenset({S.SETTLED, S.ROLLED_BACK, S.REFUSED, S.SUPERSEDED})
"""States in which only pending effects remain to be done."""
TRYING = frozenset({S.SHADOW, S.CANARY, S.PROMOTING, S.WATCHING})
"""States in which guards are judged."""


def after(state: State, event: str) -> State:
    """The state that `event` leads to.

    Raises:
        RefusedError: the table does not list it.
    """
    row = TABLE[state]
    if event not in row:
        raise RefusedError(
            f"a rollout that is {state.value} knows no event {event}", f"known here: {', '.join(row) or 'none'}"
        )
    return row[event]
