"""Admission: the quorum was met, once, and the log says so. The file a scorer demands.

`admissions/<bundle hex>/<folder hex>.json`, RFC 8785:
`{"schema": 1, "core": {…}, "log": {"entry", "index", "checkpoint", "proof": []}, "cosignatures": []}`.
The core carries the subject, the commit, the moment of judgement, all statements and signatures,
the people file and the tier policy, so that the judgement can be made again from it alone. The
entry is the event `release.admitted`, whose body names the core's digest.

Contract. `verify` MUST make the whole judgement again under a trust root that was deployed with
the scorer: a proof that something was logged shows only that the log's owner logged it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from interlock.base.canonical import canonical, digest_hex, digest_of
from interlock.base.errors import IntegrityError, RefusedError, UsageError
from interlock.trust.event import parse_entry
from interlock.trust.merkle import leaf_hash, verify_inclusion
from interlock.trust.note import Verifier, open_checkpoint
from interlock.trust.people import People
from interlock.trust.quorum import Approval, Signed, judge
from interlock.trust.statement import Subject
from interlock.trust.tiers import TierPolicy

SCHEMA = 1
_ROOT_FIELDS = {"schema", "log", "witnesses", "people", "tiers", "environment"}


@dataclass(frozen=True)
class TrustRoot:
    """What a scorer was told to trust when it was deployed.

    Attributes:
        log: verifier key of the log.
        witnesses: verifier keys of witnesses; may be empty until there are any.
        people: accepted digests of people files.
        tiers: accepted digests of tier policies.
        environment: where these scorers serve: approvals for another one do not count here.
    """

    log: Verifier
    witnesses: tuple[Verifier, ...]
    people: frozenset[str]
    tiers: frozenset[str]
    environment: str = "production"

    @classmethod
    def parse(cls, data: bytes) -> TrustRoot:
        """The root in `trust/root.json`.

        Raises:
            UsageError: malformed.
        """
        try:
            given = json.loads(data)
            if given["schema"] != SCHEMA or set(given) != _ROOT_FIELDS or type(given["environment"]) is not str:
                raise ValueError("another schema")
            return cls(
                Verifier.parse(given["log"]),
                tuple(Verifier.parse(each) for each in given["witnesses"]),
                frozenset(digest_of_text(each) for each in given["people"]),
                frozenset(digest_of_text(each) for each in given["tiers"]),
                given["environment"],
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError("the trust root is malformed", "write it with `interlock release trust`") from error

    def to_bytes(self) -> bytes:
        """The file's content."""
        return canonical(
            {
                "schema": SCHEMA,
                "log": self.log.to_text(),
                "witnesses": [each.to_text() for each in self.witnesses],
                "people": sorted(self.people),
                "tiers": sorted(self.tiers),
                "environment": self.environment,
            }
        )


def digest_of_text(text: str) -> str:
    """`text` itself, when it is a digest."""
    digest_hex(text)
    return text


@dataclass(frozen=True)
class Admission:
    """A verified admission."""

    subject: Subject
    commit: str
    admitted_ns: int
    approvals: tuple[Approval, ...]
    log_index: int


def core(
    subject: Subject, commit: str, admitted_ns: int, signed: Iterable[Signed], governed: tuple[bytes, bytes]
) -> dict[str, Any]:
    """What was judged, so that it can be judged again; `governed` is the people file and the tier policy."""
    return {
        "subject": subject.to_json(),
        "commit": commit,
        "admitted_ns": str(admitted_ns),
        "statements": [
            {"name": each.name, "statement": _text(each.statement), "signature": each.signature}
            for each in sorted(signed, key=lambda one: one.name)
        ],
        "people": _text(governed[0]),
        "tiers": _text(governed[1]),
    }


def core_digest(body: dict[str, Any]) -> str:
    """What `release.admitted` names."""
    return digest_of(canonical(body))


def admission_bytes(body: dict[str, Any], entry: bytes, index: int, checkpoint: str, path: list[bytes]) -> bytes:
    """The admission file."""
    log = {"entry": _text(entry), "index": index, "checkpoint": checkpoint, "proof": [_text(each) for each in path]}
    return canonical({"schema": SCHEMA, "core": body, "log": log, "cosignatures": []})


def verify(data: bytes, service: str, bundle: str, folder: str, root: TrustRoot) -> Admission:
    """Judge an admission again.

    Args:
        data: the admission file.
        service: what is to be served.
        bundle: digest of the bundle about to be loaded.
        folder: digest of the service folder that the route names.
        root: what this scorer trusts.

    Raises:
        IntegrityError: the file is malformed, or a proof or signature does not hold.
        RefusedError: it is about something else, under people or a policy that are not accepted,
            or the quorum was not met at the logged time.
    """
    try:
        document = json.loads(data)
        if document["schema"] != SCHEMA or document["cosignatures"] != [] or canonical(document) != data:
            raise ValueError("another schema or form")
        body = document["core"]
        given = body["subject"]
        subject = Subject(**{**given, "authors": tuple(given["authors"])})
        people, tiers = _bytes(body["people"]), _bytes(body["tiers"])
        signed = [Signed(each["name"], _bytes(each["statement"]), each["signature"]) for each in body["statements"]]
        commit, admitted_ns = str(body["commit"]), int(body["admitted_ns"])
        index = _logged(document["log"], core_digest(body), admitted_ns, root)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UsageError) as error:
        raise IntegrityError("the admission file is malformed", "restore it from the controller") from error
    if root.witnesses:
        # Fail closed: until cosignatures can be checked, a root that asks for them admits nothing.
        raise RefusedError("the trust root asks for witnesses, and there are no cosignatures", "remove the witnesses")
    if (subject.service, subject.bundle, subject.folder) != (service, bundle, folder):
        raise RefusedError("the admission is for another release", "admit this one: sign its folder's digest")
    if subject.environment != root.environment:
        raise RefusedError("the admission is for another environment", f"have it approved for {root.environment}")
    if digest_of(people) not in root.people:
        raise RefusedError("the people file is not accepted here", "accept it with `interlock release trust`")
    if digest_of(tiers) not in root.tiers or digest_of(tiers) != subject.policy:
        raise RefusedError("the tier policy is not accepted here", "accept it with `interlock release trust`")
    quorum = judge(signed, People.parse(people), TierPolicy.parse(tiers), subject, admitted_ns)
    quorum.require()
    return Admission(subject, commit, admitted_ns, quorum.approvals, index)


def _logged(log: dict[str, Any], digest: str, admitted_ns: int, root: TrustRoot) -> int:
    """The index of the log entry that says so, once its proof holds."""
    checkpoint = open_checkpoint(log["checkpoint"], root.log)
    entry, index = _bytes(log["entry"]), log["index"]
    path = [_bytes(each) for each in log["proof"]]
    verify_inclusion(leaf_hash(entry), index, checkpoint.size, path, checkpoint.root)
    event = parse_entry(entry)
    if event.type != "release.admitted" or event.body.get("admission") != digest or event.time_ns != admitted_ns:
        raise IntegrityError("the log entry is not about this admission", "keep both as evidence")
    return int(index)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
