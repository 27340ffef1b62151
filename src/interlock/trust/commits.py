"""Who wrote what is to be released, proven: commits and their SSH signatures, judged by the people file.

Source: Git's signature format (header `gpgsig`, over the commit without that header) and OpenSSH
PROTOCOL.sshsig, namespace `git`.

Contract. What a commit says of itself proves nothing: its e-mail and its time are whatever somebody
typed. `listed` takes the author's word. `signed` wants a signature by a key of the author, or of the
committer, who then counts as an author too: so nobody can write something under another's name and
approve it. People are judged at the moment of judgement, never at the time that the commit claims: a
stolen key writes any date.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from interlock.base.errors import IntegrityError, RefusedError
from interlock.trust import sshsig
from interlock.trust.people import People, Person

NAMESPACE = "git"
LISTED = "listed"
SIGNED = "signed"
RULES = (LISTED, SIGNED)
"""What a tier may ask of commits, the weaker one first."""


@dataclass(frozen=True)
class Commit:
    """One commit, as it says of itself, and its signature.

    Attributes:
        id: its hash.
        author: e-mail, lower case; empty: malformed.
        committer: e-mail, lower case.
        payload: the bytes that are signed.
        signature: armoured; empty: none.
    """

    id: str
    author: str
    committer: str = ""
    payload: bytes = b""
    signature: str = ""


def made_by(commit: Commit, key: str) -> bool:
    """Whether the commit carries a valid signature by this public-key line."""
    try:
        sshsig.verify(commit.payload, commit.signature, [key], NAMESPACE)
    except IntegrityError:
        return False
    return True


def writers(commits: Iterable[Commit], people: People, rule: str, now_ns: int) -> tuple[str, ...]:
    """E-mails of everybody who wrote these commits.

    Args:
        commits: those that made the folder what it is.
        people: who is known.
        rule: `listed` or `signed`.
        now_ns: the moment of judgement.

    Raises:
        RefusedError: an author is unknown or revoked, or (`signed`) a commit does not prove its author.
    """
    found: set[str] = set()
    for commit in commits:
        author = _active(people.by_email(commit.author), commit, now_ns)
        found.add(commit.author)
        if rule == SIGNED and author is not (signer := _signer(commit, people)):
            if commit.committer not in signer.emails:
                raise RefusedError(
                    f"commit {commit.id[:12]} by {author.id} is signed by {signer.id}",
                    "sign your own commits, each with your own key",
                )
            _active(signer, commit, now_ns)
            found.add(commit.committer)
    return tuple(sorted(found))


def _signer(commit: Commit, people: People) -> Person:
    """Whose key signed."""
    where = f"commit {commit.id[:12]} by {commit.author}"
    if not commit.signature:
        raise RefusedError(
            f"{where} is not signed",
            "sign it with your SSH key (`interlock release propose --sign KEY`) and merge without rewriting it",
        )
    try:
        keys = [key for person in people.people for key in person.keys]
        line = sshsig.verify(commit.payload, commit.signature, keys, NAMESPACE)
    except IntegrityError as error:
        raise RefusedError(
            f"{where}: {error.message}", "sign it with a key that people.json lists, and merge without rewriting it"
        ) from error
    return next(person for person in people.people if line in person.keys)


def _active(person: Person, commit: Commit, now_ns: int) -> Person:
    if not person.active(now_ns):
        raise RefusedError(
            f"commit {commit.id[:12]} is by {person.id}, who has been revoked",
            "have somebody else look at the change and commit it again",
        )
    return person
