"""The sampling job: a replay sample of this home's decisions, written for another environment.

What is durable, in this order: the file under a temporary name, the event `data.sampled` with its
digest, then the file and its manifest under their names. Without the event there is no sample: who
took production's transactions out is on record before anybody has them.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from interlock.adapters.arrow import transactions
from interlock.base.canonical import canonical, digest_of
from interlock.base.clock import Clock, rfc3339
from interlock.base.errors import IntegrityError, RefusedError, UsageError
from interlock.base.files import write_atomic
from interlock.decision.archive import Archive
from interlock.decision.sample import Choice, draw, transaction
from interlock.trust.event import NewEvent

SCHEMA = 1
PARQUET = ".parquet"


def take(  # long: where from, what, where to, and who
    archive: Archive, choice: Choice, target: Path, append: Callable[[NewEvent], object], clock: Clock, user: str
) -> dict[str, Any]:
    """Draw a sample; write `target` and `target.manifest.json`; returns the manifest.

    A target that ends in .parquet is what `interlock score` reads; any other is JSON lines.

    Raises:
        UsageError: the target is there already.
        RefusedError: nothing was chosen, or a card number was found; nothing is written.
        UnreachableError: the event could not be recorded; nothing is written.
    """
    manifest_path = target.with_name(f"{target.name}.manifest.json")
    if target.exists() or manifest_path.exists():
        raise UsageError(f"{target.name} is there already", "choose another name")
    sample = draw(archive.records(choice.from_ns, choice.to_ns), choice, secrets.token_bytes(32))
    if not sample.lines:
        raise RefusedError("no transaction was chosen", "widen the time, the rate or the limit")
    data = _encoded(sample.lines, target)
    manifest = {
        "schema": SCHEMA,
        "kind": "interlock-replay-sample",
        "service": choice.service,
        "from": rfc3339(choice.from_ns),
        "to": rfc3339(choice.to_ns),
        "rate": repr(choice.rate),
        "limit": choice.limit,
        "seed": choice.seed,
        "transactions": len(sample.lines),
        "cards": sample.cards,
        "cards_left_out": sample.left_out,
        "without_inputs": sample.without_inputs,
        "repeated": sample.repeated,
        "tokens": "HMAC-SHA256 under a key drawn for this sample and thrown away",
        "sha256": digest_of(data),
    }
    part = target.with_name(f".{target.name}.part")
    write_atomic(part, data)
    try:
        append(_event(manifest, clock, user))
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    write_atomic(manifest_path, canonical(manifest))
    return manifest


def read(source: Path) -> Iterator[dict[str, Any]]:
    """The lines of a sample, once its bytes are what its manifest says.

    Raises:
        UsageError: there is no such sample.
        IntegrityError: it was altered.
    """
    try:
        data = source.read_bytes()
        manifest = json.loads(source.with_name(f"{source.name}.manifest.json").read_bytes())
    except FileNotFoundError as error:
        raise UsageError(f"{source} is no sample with a manifest", "copy both files") from error
    if manifest.get("sha256") != digest_of(data):
        raise IntegrityError("the sample is not what its manifest says", "copy it anew")
    return iter(transactions.decode(data)) if source.suffix == PARQUET else map(json.loads, data.splitlines())


def requests(lines: Iterator[dict[str, Any]], now_ns: int) -> Iterator[tuple[str, bytes]]:
    """(transaction id, predict body) of a sample whose first transaction happens now."""
    shift_ns: int | None = None
    for line in lines:
        shift_ns = now_ns - int(line["event_ns"]) if shift_ns is None else shift_ns
        body = transaction(line, shift_ns)
        yield body["transaction_id"], msgspec.json.encode({"instances": [body]})


def _encoded(lines: Sequence[bytes], target: Path) -> bytes:
    if target.suffix == PARQUET:
        return transactions.encode([json.loads(line) for line in lines])
    return b"\n".join(lines) + b"\n"


def _event(manifest: dict[str, Any], clock: Clock, user: str) -> NewEvent:
    return NewEvent(
        time_ns=clock.now_ns(),
        type="data.sampled",
        actor=user,
        origin="cli",
        object=f"service/{manifest['service']}",
        outcome="success",
        body={name: value for name, value in manifest.items() if name != "tokens"},
    )
