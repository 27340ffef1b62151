"""What a rollout is, what can be seen of it, and what can be asked for: the values of the machine."""

from __future__ import annotations

import msgspec

from interlock.decision.table import Segments
from interlock.rollout.plan import Plan
from interlock.rollout.states import State

HOLDS = {
    "missing": "something could not be seen: goes on by itself when it can be seen again",
    "frozen": "the freeze calendar: goes on by itself when the window ends, however long that is",
    "blocked": "the candidate is the only healthy copy: goes on, or back, when the champion is ready again",
    "inconclusive": "the evidence did not suffice in time: a person decides",
    "person": "a person asked for it, and ends it",
}
"""Why a rollout is held, and what ends that."""


class Standing(msgspec.Struct, frozen=True):
    """A version that a release names as a standing shadow: scored beside its champion, answering nobody.

    Attributes:
        version: the model version.
        bundle: digest of its bundle.
        folder: digest of the service folder that it was admitted by.
    """

    version: str
    bundle: str
    folder: str


class Target(msgspec.Struct, frozen=True):
    """A version that may serve: what was admitted, or what serves now."""

    version: str
    bundle: str
    folder: str
    commit: str
    segments: Segments | None = None
    """The transactions that its release gives to other services."""
    cuts: tuple[float, ...] = ()
    """Scores at which its decision changes: where the shape of scores matters most."""
    shadows: tuple[Standing, ...] = ()
    """Scored beside it while nothing is being released."""


class Effect(msgspec.Struct, frozen=True):
    """Something to do outside. `n` names it within its rollout.

    Kinds: `load`, `set_route` (`shape`: baseline | shadow | split | settled | champion), `unload`,
    `stand` (load the standing shadows of what serves now, then a table that names them), `retreat`,
    `revert_commit`. Notifying and recording are what the journal does by itself.
    """

    n: int
    kind: str
    generation: int = 0
    share: int = 0
    shape: str = ""
    bundle: str = ""


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """One rollout: everything that `step` needs and a person may ask."""

    id: str
    service: str
    commit: str
    folder: str
    """Digest of the service's folder: what the approvals bind."""
    version: str
    wish: str
    """Digest of everything that was judged: the folder, its approvals, people and policies."""
    salt: str
    started_ns: int
    state: State = State.PROPOSED
    champion: Target | None = None
    candidate: Target | None = None
    plan: Plan | None = None
    fallback: dict[str, str] = msgspec.field(default_factory=lambda: {"decision": "REVIEW"})
    index: int = -1
    """The canary step in force."""
    since_ns: int = 0
    """When the present state, or canary step, began."""
    base_generation: int = 0
    """The service's newest generation before this rollout."""
    generation: int = 0
    """Of the last table this rollout asked for."""
    share: int = 0
    shape: str = ""
    tau_ns: int | None = None
    loaded_ns: int = 0
    effects: int = 0
    """How many effects have been numbered."""
    pending: tuple[Effect, ...] = ()
    reason: str = ""
    actor: str = ""
    caught_in: str = ""
    latch: str = ""
    resume: str = ""
    """The state that a hold goes back to."""
    hold: str = ""
    """Why it is held: one of `HOLDS`."""
    asked: str = ""
    """Why a person wants it held as soon as it can be; empty: nobody does."""
    clock_ns: int = 0
    """When the deadline began to run: at the admission, and anew when a person resumed; 0: not admitted yet."""
    signed: tuple[str, ...] = ()
    """Digests of the statements that were signed for it: what a quarantine remembers."""
    request: int = 0
    """The id of the newest event by which a person asked for something that this rollout has heard."""
    majority_ns: int = 0
    breach_ns: int = 0
    champion_ns: int = 0
    """When all traffic was on the champion again."""
    reverted: str = ""
    ended_ns: int = 0


class Admitted(msgspec.Struct, frozen=True, tag="admitted"):
    """Checking passed: the admission is in the log and on disk."""

    candidate: Target
    plan: Plan
    champion: Target | None
    generation: int
    """The service's newest generation, so that ours are newer."""
    fallback: dict[str, str] = msgspec.field(default_factory=lambda: {"decision": "REVIEW"})


class Rejected(msgspec.Struct, frozen=True, tag="rejected"):
    """Checking said no."""

    reason: str


class Outcome(msgspec.Struct, frozen=True, tag="outcome"):
    """An effect came to its end; `ok` False means that it never will succeed."""

    n: int
    ok: bool = True
    detail: str = ""


class Looked(msgspec.Struct, frozen=True, tag="looked"):
    """A look at the counters.

    Attributes:
        breach: names of failing guards and limits, with commas; empty: none fails.
        missing: what could not be seen; empty: everything was.
        candidate_requests: answered by the candidate under the present generation.
        tau_ns: the champion's p95 of model time, once there are samples enough.
        champion_ready: it is loaded in every live worker.
        frozen: why no share may grow now; empty: it may.
        unclear: guards whose harm is not excluded yet, with commas; empty: all are (advance by evidence).
        winner: of an A/B test: `candidate` or `champion` once the stop rule says so.
    """

    breach: str = ""
    missing: str = ""
    candidate_requests: int = 0
    tau_ns: int | None = None
    champion_ready: bool = True
    frozen: str = ""
    unclear: str = ""
    winner: str = ""


class Latched(msgspec.Struct, frozen=True, tag="latched"):
    """Somebody else went back: a supervisor or a person."""

    latch: str
    reason: str
    actor: str
    at_ns: int


class Aborted(msgspec.Struct, frozen=True, tag="aborted"):
    """A person asked to go back; `request` is the event's id, 0: the branch asked."""

    actor: str
    reason: str
    request: int = 0


class Paused(msgspec.Struct, frozen=True, tag="paused"):
    """A person asked to stop where it is; guards go on."""

    actor: str
    reason: str
    request: int = 0


class Resumed(msgspec.Struct, frozen=True, tag="resumed"):
    """A person asked to go on; with `advance` they accept what evidence is missing for this step."""

    actor: str
    reason: str
    advance: bool = False
    request: int = 0


class Superseded(msgspec.Struct, frozen=True, tag="superseded"):
    """The branch asks for something else now."""

    commit: str


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """Checking starts."""


Observation = Admitted | Rejected | Outcome | Looked | Latched | Aborted | Paused | Resumed | Superseded | Begun
