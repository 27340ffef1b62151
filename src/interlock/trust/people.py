"""The people file: who a person is, which roles they may take, with which keys they sign.

`people.json` = `{"schema": 1, "people": [{"id", "name", "emails": [], "roles": [], "keys": [],
"revoked": "RFC 3339"?}]}`. It lies in Git, itself under quorum; its digest is in the scorers' trust
root. An e-mail, a key and an id each belong to one person only: a second account of the same
person cannot be told from another person otherwise.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from interlock.base.canonical import digest_of
from interlock.base.errors import RefusedError, UsageError
from interlock.trust.sshsig import key_blob

_ID = re.compile(r"[a-z][a-z0-9-]{0,31}")
_KEYS = {"id", "name", "emails", "roles", "keys", "revoked"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REMEDY = "correct people.json; see docs/adr/0007"


@dataclass(frozen=True)
class Person:
    """One person.

    Attributes:
        id: how statements and events name them.
        name: for people to read.
        emails: of their commits, lower case.
        roles: what they may approve as.
        keys: SSH public-key lines.
        revoked_ns: from when on nothing of theirs counts; None: never.
    """

    id: str
    name: str
    emails: tuple[str, ...]
    roles: tuple[str, ...]
    keys: tuple[str, ...]
    revoked_ns: int | None = None

    def active(self, now_ns: int) -> bool:
        """Whether they had not been revoked at that time."""
        return self.revoked_ns is None or now_ns < self.revoked_ns


@dataclass(frozen=True)
class People:
    """Everybody, and the digest of the file that says so."""

    digest: str
    people: tuple[Person, ...]

    @classmethod
    def parse(cls, data: bytes) -> People:
        """The people of a file.

        Raises:
            UsageError: malformed, or an id, e-mail or key is claimed twice.
        """
        try:
            document = json.loads(data, object_pairs_hook=_no_duplicates)
        except (ValueError, RecursionError) as error:
            raise UsageError("people.json is no JSON", _REMEDY) from error
        if (
            not isinstance(document, dict)
            or document.get("schema") != 1
            or not isinstance(document.get("people"), list)
        ):
            raise UsageError("people.json has no list of people, or another schema", _REMEDY)
        people = tuple(_person(each) for each in document["people"])
        for what, values in (
            ("id", [person.id for person in people]),
            ("e-mail", [email for person in people for email in person.emails]),
            ("key", [key_blob(key).hex() for person in people for key in person.keys]),
        ):
            if len(set(values)) != len(values):
                raise UsageError(f"two people share an {what}" if what != "key" else "two people share a key", _REMEDY)
        return cls(digest_of(data), people)

    def person(self, person_id: str) -> Person:
        """The person of that id.

        Raises:
            RefusedError: there is none.
        """
        found = next((person for person in self.people if person.id == person_id), None)
        if found is None:
            raise RefusedError("a person who is not in people.json", "add them in a reviewed change")
        return found

    def by_email(self, email: str) -> Person:
        """The person whose commits carry that e-mail.

        Raises:
            RefusedError: nobody's.
        """
        found = next((person for person in self.people if email.lower() in person.emails), None)
        if found is None or not email.isascii():  # lower() makes ASCII of some look-alikes
            raise RefusedError(
                "a commit by an author who is not in people.json", "commit with a listed e-mail, or add the person"
            )
        return found


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found


def _person(given: Any) -> Person:
    if not isinstance(given, dict) or not {"id", "emails", "roles", "keys"} <= set(given) <= _KEYS:
        raise UsageError("a person with missing or unknown fields", f"known: {', '.join(sorted(_KEYS))}")
    lists = [given["emails"], given["roles"], given["keys"]]
    if not all(isinstance(each, list) and all(isinstance(value, str) for value in each) for each in lists):
        raise UsageError("a person's emails, roles and keys are lists of text", _REMEDY)
    if not isinstance(given["id"], str) or not _ID.fullmatch(given["id"]):
        raise UsageError("a person's id is not plain", "use lower-case letters, digits and dashes")
    emails = tuple(email.lower() for email in given["emails"])
    if not all(email.isascii() for email in emails):
        raise UsageError("an e-mail with look-alike characters", "use ASCII")
    for key in given["keys"]:
        key_blob(key)
    revoked = given.get("revoked")
    return Person(
        given["id"],
        str(given.get("name", given["id"])),
        emails,
        tuple(given["roles"]),
        tuple(given["keys"]),
        None if revoked is None else instant_ns(revoked),
    )


def instant_ns(text: Any) -> int:
    """Nanoseconds of an RFC 3339 time with an offset.

    Raises:
        UsageError: it is none.
    """
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise UsageError("not a time", "write RFC 3339, such as 2026-12-31T00:00:00Z") from error
    if found.tzinfo is None:
        raise UsageError("a time without an offset", "write RFC 3339, such as 2026-12-31T00:00:00Z")
    # Whole microseconds: a float of seconds would lose the last one.
    return (found - _EPOCH) // timedelta(microseconds=1) * 1_000
