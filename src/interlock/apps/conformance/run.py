"""Run cases against a server and count verdicts: the thin shell around the table.

Contract. Cases run one after the other, each on a connection of its own, none is retried. A case
that cannot be judged because the server is gone, or because the suite itself broke, is an *error*,
never a fail. Inconclusive cases say why. The whole is `pass` only when something passed and nothing
failed or broke.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from interlock.apps.conformance.case import Calls, Case, Dialogue, Finding, NotApplicable, Subject, judged
from interlock.apps.conformance.connection import Door, hold
from interlock.apps.conformance.discovery import Example, discover
from interlock.apps.conformance.rpc import RpcDoor, hold_calls
from interlock.base.errors import UnreachableError
from interlock.base.verdict import Verdict, worst
from interlock.privacy.redact import redact

_NOT_ALLOWED = (401, 403, "UNAUTHENTICATED", "PERMISSION_DENIED")
_WHO = "the caller may not ask this; name one who may with --header"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to judge, and with what.

    Attributes:
        door: the HTTP server.
        cases: in the order in which they run.
        model: its name; empty: the first that is listed.
        version: an explicit version; empty: the first that the metadata lists.
        example: valid inputs; what is missing is made from the metadata.
        with_repository: load and unload may be called.
        rpc: the gRPC server; None: cases of gRPC are inconclusive.
    """

    door: Door
    cases: tuple[Case[Any, Any], ...]
    model: str = ""
    version: str = ""
    example: Example = field(default_factory=Example)
    with_repository: bool = False
    rpc: RpcDoor | None = None


async def conform(url: str, plan: Plan) -> dict[str, Any]:
    """Judge a server; the JSON report.

    Raises:
        UnreachableError: nothing answers at the door.
        UsageError: no model is named and none is listed.
    """
    subject = await discover(plan.door, plan.model, plan.version, plan.example, plan.with_repository)
    return report(url, subject, [await judge(plan, subject, case) for case in plan.cases])


async def judge(plan: Plan, subject: Subject, case: Case[Any, Any]) -> Finding:
    """Ask one case's requests and judge the replies; never raises."""
    try:
        asked = case.ask(subject)
        if isinstance(asked, Calls):
            if plan.rpc is None:
                raise NotApplicable("no gRPC port was named: give it with --grpc HOST:PORT")
            return await _called(plan.rpc, subject, case, asked)
        return await _held(plan.door, subject, case, asked)
    except NotApplicable as reason:
        return Finding(case, Verdict.INCONCLUSIVE, str(reason))
    except UnreachableError as error:
        return Finding(case, Verdict.ERROR, error.message)
    except Exception as error:  # a broken case is reported as such; the others still run
        return Finding(case, Verdict.ERROR, f"the case itself broke: {type(error).__name__}: {error}"[:300])


async def _called(door: RpcDoor, subject: Subject, case: Case[Any, Any], asked: Calls) -> Finding:
    answers = await hold_calls(door, asked)
    for answer in answers:
        if answer.code in _NOT_ALLOWED:
            raise NotApplicable(f"code {answer.code}: {_WHO}")
    return judged(case, subject, answers)


async def _held(door: Door, subject: Subject, case: Case[Any, Any], asked: Dialogue) -> Finding:
    replies = await hold(door, asked)
    for place, reply in enumerate(replies, start=1):
        if reply.lost and not case.may_end:
            return Finding(case, Verdict.FAIL, f"no reply to request {place} of {len(replies)}: {reply.lost}")
        if reply.status in _NOT_ALLOWED:
            raise NotApplicable(f"status {reply.status}: {_WHO}")
    return judged(case, subject, replies)


def report(url: str, subject: Subject, findings: Sequence[Finding]) -> dict[str, Any]:
    """The JSON report: counts, the whole verdict, and one row per case."""
    counted = Counter(each.verdict for each in findings)
    return {
        "url": url,
        "model": subject.model,
        "version": subject.version,
        "server": {name: redact(str(subject.server.get(name, ""))) for name in ("name", "version")},
        "verdict": _whole(findings).word,
        "passed": counted[Verdict.PASS],
        "failed": counted[Verdict.FAIL],
        "inconclusive": counted[Verdict.INCONCLUSIVE],
        "errors": counted[Verdict.ERROR],
        "cases": [
            {
                "id": each.case.id,
                "group": each.case.group,
                "clause": each.case.clause,
                "sends": each.case.sends,
                "holds": each.case.holds,
                "verdict": each.verdict.word,
                "why": redact(each.why),
            }
            for each in findings
        ],
    }


def _whole(findings: Sequence[Finding]) -> Verdict:
    conclusive = [each.verdict for each in findings if each.verdict is not Verdict.INCONCLUSIVE]
    return worst(conclusive) if conclusive else Verdict.INCONCLUSIVE
