"""The quorum: have separate people, in every role the tier asks for, signed exactly this?

Pure. Rules, each of which has an attack of its own in `tests/attacks`: the signature is over the
file's bytes by a key of the person it names; the person was not revoked and holds the role; the
statement is about exactly this subject (environment, service, digests, authors) and not expired;
nobody approves what they wrote or trained; one person counts in one role only; a signed refusal
by somebody entitled stops the release.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from interlock.base.errors import InterlockError, RefusedError
from interlock.base.verdict import Verdict
from interlock.trust import sshsig
from interlock.trust.people import People, Person
from interlock.trust.statement import Statement, Subject, parse
from interlock.trust.tiers import TierPolicy


@dataclass(frozen=True)
class Signed:
    """A statement's file and its signature's file."""

    name: str
    statement: bytes
    signature: str


@dataclass(frozen=True)
class Approval:
    """A signed approval that counts."""

    person: str
    role: str
    name: str
    key: str


@dataclass(frozen=True)
class Quorum:
    """The judgement.

    Attributes:
        verdict: PASS; INCONCLUSIVE while roles are missing; FAIL on a refusal or a bad statement
            that leaves a role missing.
        approvals: those that count, one per role.
        missing: roles nobody has signed for.
        reasons: why statements did not count, and what is missing.
    """

    verdict: Verdict
    approvals: tuple[Approval, ...]
    missing: tuple[str, ...]
    reasons: tuple[str, ...]

    def require(self) -> None:
        """Return only when the quorum is met.

        Raises:
            RefusedError: naming what is missing and why statements did not count.
        """
        if self.verdict is not Verdict.PASS:
            raise RefusedError(
                "the quorum is not met: " + "; ".join(self.reasons),
                "get the missing roles to sign with `interlock statement` and `interlock approve`",
            )


def judge(signed: Iterable[Signed], people: People, policy: TierPolicy, subject: Subject, now_ns: int) -> Quorum:
    """Judge all statements about a subject.

    Args:
        signed: every statement there is for the folder, in any order.
        people: who may sign.
        policy: which roles the service's tier asks for.
        subject: what is to be released; its `authors` may not approve.
        now_ns: the moment of judgement.

    Raises:
        RefusedError: the service has no tier, or the release no author.
    """
    if not subject.authors:
        raise RefusedError("a release without a known author", "commit as somebody who is listed in people.json")
    roles = policy.tier(subject.service).roles
    counted: dict[str, Approval] = {}
    reasons: list[str] = []
    refused = False
    for each in sorted(signed, key=lambda one: one.name):
        try:
            statement, approval = _valid(each, people, subject, now_ns)
        except InterlockError as error:
            reasons.append(f"{each.name}: {error.message}")
            continue
        if statement.decision == "refuse":
            refused = True
            reasons.append(f"{approval.person} refused as {approval.role}: {statement.reason}")
        elif approval.person in {other.person for other in counted.values() if other.role != approval.role}:
            reasons.append(f"{each.name}: {approval.person} signed in a second role")
        elif approval.role in roles:
            counted.setdefault(approval.role, approval)
    missing = tuple(role for role in roles if role not in counted)
    reasons += [f"nobody approved as {role}" for role in missing]
    verdict = Verdict.FAIL if refused else Verdict.INCONCLUSIVE if missing else Verdict.PASS
    return Quorum(verdict, tuple(counted[role] for role in roles if role in counted), missing, tuple(reasons))


def check_one(each: Signed, people: People, subject: Subject, now_ns: int) -> Approval:
    """One statement by itself: what `interlock approve` demands before it records it.

    Raises:
        InterlockError: why it would not count.
    """
    return _valid(each, people, subject, now_ns)[1]


def _valid(each: Signed, people: People, subject: Subject, now_ns: int) -> tuple[Statement, Approval]:
    statement = parse(each.statement)
    person = people.person(statement.person)
    key = sshsig.verify(each.statement, each.signature, person.keys)
    _entitled(person, statement, now_ns)
    if statement.subject != subject:
        raise RefusedError(f"the statement is about {_difference(statement.subject, subject)}", "sign what is proposed")
    if statement.person in subject.authors:
        raise RefusedError(f"{statement.person} is an author of this release", "somebody else must approve it")
    if statement.expires_ns <= now_ns:
        raise RefusedError("the statement has expired", "sign a new one")
    return statement, Approval(statement.person, statement.role, each.name, key)


def _entitled(person: Person, statement: Statement, now_ns: int) -> None:
    if not person.active(now_ns):
        raise RefusedError(f"{person.id} has been revoked", "somebody else must approve it")
    if statement.role not in person.roles:
        raise RefusedError(f"{person.id} does not hold the role {statement.role}", "ask somebody who does")


def _difference(given: Subject, wanted: Subject) -> str:
    names = [name for name in Subject.__dataclass_fields__ if getattr(given, name) != getattr(wanted, name)]
    return f"another {', '.join(names)}"
