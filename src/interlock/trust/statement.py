"""The statement an approver signs: an in-toto Statement v1 with our predicate.

It binds what was looked at, by digest, and who says what about it. A signature is over the exact
bytes of the file; `parse` demands that those bytes are the canonical form, so that one statement
has one text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from interlock.base.canonical import canonical, digest_hex
from interlock.base.clock import rfc3339
from interlock.base.errors import UsageError
from interlock.trust.people import instant_ns

TYPE = "https://in-toto.io/Statement/v1"
PREDICATE = "https://interlock.dev/approval/v1"
DECISIONS = ("approve", "refuse")
_TEXT = ("environment", "service", "version", "ticket", "role", "decision", "person", "reason", "expires")
_DIGESTS = ("folder", "bundle", "card", "policy", "feature_set", "threshold_set")
_FIELDS = {*_TEXT, *_DIGESTS, "dataset", "authors", "image"}
_REMEDY = "make it with `interlock statement` and sign the file as it is"
MAX_TEXT = 512


@dataclass(frozen=True)
class Subject:
    """What is to be released, by digest.

    Attributes:
        environment, service, version: the release.
        folder: digest of the service's folder in the tree.
        bundle: of the model version.
        dataset: digest of the snapshot it was trained on.
        card: digest of the model card.
        policy: digest of `policy/tiers.yaml`.
        feature_set, threshold_set: echoed from the bundle.
        authors: ids of everybody who wrote the folder or ran the training, sorted.
        image: digest of the image, or None when the manifests name none.
    """

    environment: str
    service: str
    version: str
    folder: str
    bundle: str
    dataset: str
    card: str
    policy: str
    feature_set: str
    threshold_set: str
    authors: tuple[str, ...]
    image: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {**{name: getattr(self, name) for name in self.__dataclass_fields__}, "authors": list(self.authors)}


@dataclass(frozen=True)
class Statement:
    """One person's word about a subject, in one role, until it expires."""

    subject: Subject
    person: str
    role: str
    decision: str
    ticket: str
    reason: str
    expires_ns: int


def statement_bytes(statement: Statement) -> bytes:
    """The canonical bytes to sign."""
    subject = statement.subject
    predicate = subject.to_json() | {
        "person": statement.person,
        "role": statement.role,
        "decision": statement.decision,
        "ticket": statement.ticket,
        "reason": statement.reason,
        "expires": rfc3339(statement.expires_ns),
    }
    name = f"environments/{subject.environment}/services/{subject.service}"
    return canonical(
        {
            "_type": TYPE,
            "subject": [
                {"name": name, "digest": {"sha256": digest_hex(subject.folder)}},
                {"name": f"{subject.service}@{subject.version}", "digest": {"sha256": digest_hex(subject.bundle)}},
            ],
            "predicateType": PREDICATE,
            "predicate": predicate,
        }
    )


def parse(data: bytes) -> Statement:
    """The statement in a signed file.

    Raises:
        UsageError: malformed, not canonical, or its subjects are not its predicate's.
    """
    try:
        document = json.loads(data)
        given = document["predicate"]
        if document["predicateType"] != PREDICATE or set(given) != _FIELDS:
            raise ValueError("another predicate")
        found = _statement(given)
        text = statement_bytes(found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError("not an approval statement", _REMEDY) from error
    # One comparison covers _type, subjects, order of fields and white space.
    if text != data:
        raise UsageError("the statement is not in canonical form, or contradicts itself", _REMEDY)
    return found


def _statement(given: dict[str, Any]) -> Statement:
    for name in _TEXT:
        if not isinstance(given[name], str) or len(given[name]) > MAX_TEXT or not given[name].isprintable():
            raise ValueError(name)
    for name in _DIGESTS:
        digest_hex(given[name])
    if given["decision"] not in DECISIONS or not all(isinstance(author, str) for author in given["authors"]):
        raise ValueError("decision or authors")
    names = [name for name in Subject.__dataclass_fields__ if name != "authors"]
    subject = Subject(**{name: given[name] for name in names}, authors=tuple(given["authors"]))
    return Statement(
        subject,
        given["person"],
        given["role"],
        given["decision"],
        given["ticket"],
        given["reason"],
        instant_ns(given["expires"]),
    )
