"""The route table: who answers which entity, immutable and totally ordered by (epoch, generation).

Contract. A table MUST cover all buckets exactly once (or name no arm at all: then the service's
fallback answers), MUST carry everything a request needs to be routed, and is never edited: a
change is a new generation. A request keeps the table it started with. The epoch is the fencing
number of the controller's lease: a scorer refuses a table of a lower (epoch, generation) than it
has. Only a table that names a retreat latch in `clears`, in a higher epoch than the one it was
set in, opens that latch. A table may send a segment of the transactions to another service; that
is one hop, whatever the other service's own table says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

import msgspec

from interlock.base.canonical import digest_hex
from interlock.base.errors import UsageError

BUCKETS = 10_000
SCHEMA = 1
CHAMPION = "champion"
CANDIDATE = "candidate"
ARM_NAMES = (CHAMPION, CANDIDATE)
STANDING = ("shadow-1", "shadow-2")
"""Names of standing shadows: scored beside a settled champion, for as long as its release names them."""
NOBODY = 255
"""The owner of a bucket in a table without arms."""

SEGMENT_FIELDS: Mapping[str, re.Pattern[str]] = {
    "country": re.compile(r"[A-Z]{2}"),
    "mcc": re.compile(r"[0-9]{4}"),
    "currency": re.compile(r"[A-Z]{3}"),
}
"""The fields of a transaction that may tell its segment, and what their values look like."""
MAX_SEGMENTS = 1_024

_SERVICE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Segments(msgspec.Struct, frozen=True):
    """Which other service decides a transaction, by one of its fields.

    Attributes:
        field: of `SEGMENT_FIELDS`.
        services: value to service; every other value, and none, stays with the service that was asked.
    """

    field: str
    services: dict[str, str]

    def problem(self, service: str) -> str:
        """The first rule that these segments break as those of `service`; empty: none."""
        pattern = SEGMENT_FIELDS.get(self.field)
        if pattern is None:
            return "an unknown field tells the segments"
        if not 1 <= len(self.services) <= MAX_SEGMENTS:
            return f"not 1 to {MAX_SEGMENTS} segments"
        if not all(map(pattern.fullmatch, self.services)):
            return f"a segment's value is no {self.field}"
        if not all(map(_SERVICE.fullmatch, self.services.values())):
            return "a segment's service is no service name"
        return "a service routes to itself" if service in self.services.values() else ""


class Arm(msgspec.Struct, frozen=True):
    """A version with a share of traffic.

    Attributes:
        name: `champion` or `candidate`; of `STANDING` for a standing shadow.
        bundle: digest of the bundle that answers.
        folder: digest of the service folder its admission binds.
        version: the model version, for people and metrics.
        ranges: half-open bucket ranges; empty for an arm at 0 % and for a shadow.
    """

    name: str
    bundle: str
    folder: str
    version: str
    ranges: tuple[tuple[int, int], ...] = ()

    @property
    def share(self) -> float:
        """The share of entities this arm answers: a decision's propensity."""
        return sum(high - low for low, high in self.ranges) / BUCKETS


class RouteTable(msgspec.Struct, frozen=True, kw_only=True):
    """One service's routes at one instant.

    Attributes:
        service: what clients call.
        epoch: the controller's fencing epoch.
        generation: grows with every table of the service.
        arms: champion first; none means that the fallback answers everything.
        shadows: arms scored beside the answer, after it; their ranges are empty.
        sticky: which entity is hashed.
        salt: the rollout's secret, hexadecimal.
        tau_ns: the latency threshold for the `slow` counter; None while it is not known.
        lease_s: seconds from receipt until the supervisor retreats by itself; None when settled.
        fallback: the constant answer when no arm can answer.
        clears: the retreat latch this table opens, if any.
        rollout: the rollout that made it, if any.
        segments: the transactions that other services decide, if any.
    """

    service: str
    epoch: int
    generation: int
    arms: tuple[Arm, ...]
    salt: str
    schema: int = SCHEMA
    shadows: tuple[Arm, ...] = ()
    sticky: str = "card"
    tau_ns: int | None = None
    lease_s: float | None = None
    fallback: dict[str, str] = msgspec.field(default_factory=lambda: {"decision": "REVIEW"})
    clears: str | None = None
    rollout: str | None = None
    segments: Segments | None = None

    @property
    def order(self) -> tuple[int, int]:
        """(epoch, generation): a later table is greater."""
        return self.epoch, self.generation

    @property
    def settled(self) -> bool:
        """Whether one arm answers everything and no release is being judged; standing shadows judge none."""
        alone = len([arm for arm in self.arms if arm.ranges]) <= 1 and self.lease_s is None
        return alone and all(arm.name in STANDING for arm in self.shadows)

    @property
    def bundles(self) -> frozenset[str]:
        """Digests of every bundle that a request under this table may touch."""
        return frozenset(arm.bundle for arm in (*self.arms, *self.shadows))

    def arm(self, name: str) -> Arm | None:
        """The arm of that name, or None."""
        return next((arm for arm in self.arms if arm.name == name), None)

    def without(self, bundles: frozenset[str]) -> RouteTable:
        """The table less the standing shadows of those bundles."""
        kept = tuple(arm for arm in self.shadows if arm.name not in STANDING or arm.bundle not in bundles)
        return msgspec.structs.replace(self, shadows=kept)

    def owners(self) -> bytes:
        """For each of the 10,000 buckets the index into `arms` (`NOBODY` in a table without arms)."""
        found = bytearray([NOBODY]) * BUCKETS
        for index, arm in enumerate(self.arms):
            for low, high in arm.ranges:
                found[low:high] = bytes([index]) * (high - low)
        return bytes(found)

    def validate(self) -> RouteTable:
        """Return the table itself when every rule of the contract holds.

        Raises:
            UsageError: naming the first rule it breaks.
        """
        _validate_head(self)
        _validate_names(self.arms, "arms", ARM_NAMES)
        _validate_names(self.shadows, "shadows", (*ARM_NAMES, *STANDING))
        if self.arms:
            _validate_cover(self.arms)
        if any(arm.ranges for arm in self.shadows):
            raise UsageError("a shadow has ranges", "a shadow answers nobody: leave its ranges empty")
        if any(arm.name in STANDING for arm in self.shadows) and not self.settled:
            raise UsageError("a standing shadow in an unsettled table", "standing shadows rest during a rollout")
        return self


def encode(table: RouteTable) -> bytes:
    """The table as JSON, for the disk of a supervisor."""
    return msgspec.json.encode(table)


def decode(data: bytes) -> RouteTable:
    """A validated table from its JSON.

    Raises:
        UsageError: the bytes are no table, or the table breaks a rule.
    """
    try:
        return msgspec.json.decode(data, type=RouteTable).validate()
    except msgspec.MsgspecError as error:
        raise UsageError("these bytes are no route table", "restore the file or install a table") from error


def _validate_head(table: RouteTable) -> None:
    if table.schema != SCHEMA:
        raise UsageError(f"route table schema {table.schema} is unknown", f"write schema {SCHEMA}")
    if not _SERVICE.fullmatch(table.service):
        raise UsageError("not a service name", "use lower-case letters, digits and dashes, 63 at most")
    if table.epoch < 0 or table.generation < 1:
        raise UsageError("epoch or generation is too small", "epochs start at 0 and generations at 1")
    try:
        salt = bytes.fromhex(table.salt)
    except ValueError as error:
        raise UsageError("the salt is not hexadecimal", "write the salt's bytes in hexadecimal") from error
    if len(salt) < 16:
        raise UsageError("the salt is shorter than 16 bytes", "draw a new salt")
    if table.lease_s is not None and not table.lease_s > 0:
        raise UsageError("the lease is not positive", "give seconds, or none for a settled table")
    if table.tau_ns is not None and table.tau_ns <= 0:
        raise UsageError("the latency threshold is not positive", "give nanoseconds, or none")
    if table.segments is not None and (problem := table.segments.problem(table.service)):
        raise UsageError(problem, f"one of {', '.join(SEGMENT_FIELDS)}, each value to another service")


def _validate_names(arms: tuple[Arm, ...], what: str, known: tuple[str, ...]) -> None:
    names = [arm.name for arm in arms]
    if any(name not in known for name in names):
        raise UsageError(f"an unknown name among the {what}", f"known names: {', '.join(known)}")
    if names != sorted(set(names), key=known.index):
        raise UsageError(f"the {what} are repeated or out of order", "name each once, the champion first")
    for arm in arms:
        digest_hex(arm.bundle)
        digest_hex(arm.folder)


def _validate_cover(arms: tuple[Arm, ...]) -> None:
    ranges = sorted(piece for arm in arms for piece in arm.ranges)
    if any(low >= high for low, high in ranges):
        raise UsageError("an empty or reversed bucket range", "ranges are half-open: low < high")
    if not ranges or ranges[0][0] != 0 or ranges[-1][1] != BUCKETS:
        raise UsageError("the ranges do not cover all buckets", f"cover 0 to {BUCKETS}")
    for (_, end), (start, _) in pairwise(ranges):
        if end != start:
            raise UsageError(
                f"the ranges {'overlap' if start < end else 'leave a gap'} at bucket {start}", "cover once"
            )
