"""The order of environments, `policy/environments.yaml`, and whether a release has earned its place in it.

A release may enter an environment once the same bundle of the same service has settled in *every*
environment of the wave before, at least `wait` ago, and was not taken back there since. What it
did there is read from that environment's own transparency log: an admission for that environment,
and the settling of exactly what was admitted. Without the file there is one environment. Pure:
reading and verifying a log is the caller's affair.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from interlock.base.clock import NS_PER_S
from interlock.base.errors import RefusedError, UnreachableError
from interlock.rollout.spec import API, Spec, document
from interlock.trust.event import Event

SOURCE = "policy/environments.yaml"
SETTLED = "rollout.settled"
ADMITTED = "release.admitted"
TAKEN_BACK = ("release.quarantined", "rollout.rolled_back", "rollout.retreated")
KINDS = (ADMITTED, SETTLED, *TAKEN_BACK)
"""The events that tell what an environment thinks of a release."""


class NotYetError(UnreachableError):
    """The release waits for an environment before it: to be asked again."""


class Order(msgspec.Struct, frozen=True):
    """Which environments come before which.

    Attributes:
        waves: environments that are released to at the same time, first wave first; none is named twice.
        wait_s: seconds that a release must have been settled in one wave before the next may begin.
    """

    waves: tuple[tuple[str, ...], ...]
    wait_s: float = 0.0

    def before(self, environment: str) -> tuple[str, ...]:
        """The environments of the wave before; empty for the first.

        Raises:
            RefusedError: the order does not know this environment.
        """
        for number, wave in enumerate(self.waves):
            if environment in wave:
                return self.waves[number - 1] if number else ()
        raise RefusedError(f"{SOURCE} does not list {environment}", "add it to the order, in a reviewed change")


def parse(text: str, source: str = SOURCE) -> Order:
    """The order in a file: `spec: {order: [staging, production]}`, or `waves` of several each, and `wait: 10m`.

    Raises:
        YamlError: with line and remedy.
    """
    _, spec = document(text, source, API, "EnvironmentOrder")
    spec.take(required=(), optional=("order", "waves", "wait"))
    if ("order" in spec.body) == ("waves" in spec.body):
        raise spec.wrong("order", "order and waves are two ways to say one thing", "write one of them")
    key = "order" if "order" in spec.body else "waves"
    rows = spec.body[key]
    if not isinstance(rows, list) or not rows:
        raise spec.wrong(key, "not a list", "write at least one environment")
    waves = tuple(_wave(spec, key, [row] if key == "order" else row) for row in rows)
    names = [name for wave in waves for name in wave]
    if len(set(names)) != len(names):
        raise spec.wrong(key, "an environment is named twice", "name each once")
    return Order(waves, spec.duration("wait", 0.0))


def settled_before(  # long: a release, an environment, and what its log says
    events: Iterable[Event], environment: str, service: str, bundle: str, wait_s: float, now_ns: int
) -> int:
    """The log index of the proof that a release has settled in an earlier environment.

    Args:
        events: the verified log's events of `KINDS`, in log order.
        environment: whose log it is.
        service, bundle: of the release.
        wait_s: seconds for which it must have been settled.
        now_ns: wall time.

    Raises:
        RefusedError: it was taken back there.
        NotYetError: it has not settled there, or not for long enough.
    """
    folders: set[str] = set()
    settled: Event | None = None
    taken: Event | None = None
    for event in events:
        if event.body.get("service") != service:
            continue
        same, folder = event.body.get("bundle") == bundle, event.body.get("folder")
        if event.type == ADMITTED and same and event.body.get("environment") == environment:
            folders.add(str(folder))
        elif event.type == SETTLED and same and folder in folders:
            settled, taken = event, None
        elif event.type in TAKEN_BACK and (same or folder in folders):
            taken = event
    if taken is not None:
        raise RefusedError(
            f"{service} {bundle[:19]} was taken back in {environment}: {taken.body.get('reason') or taken.type}",
            f"release a mended version to {environment} first",
        )
    if settled is None:
        raise NotYetError(f"{service} {bundle[:19]} has not settled in {environment} yet", "it is tried again")
    left = wait_s - (now_ns - settled.time_ns) / NS_PER_S
    if left > 0:
        raise NotYetError(
            f"{service} {bundle[:19]} settled in {environment} less than {wait_s:g} s ago", "it is tried again"
        )
    return settled.log_index if settled.log_index is not None else -1


def _wave(spec: Spec, key: str, names: object) -> tuple[str, ...]:
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise spec.wrong(key, "not a name of an environment, or a list of names", "write [[staging], [cell-a, cell-b]]")
    return tuple(names)
