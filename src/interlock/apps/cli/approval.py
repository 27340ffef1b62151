"""`interlock statement` and `interlock approve`: what an approver signs, and how it is handed in.

Signing happens outside, with the person's own key: `ssh-keygen -Y sign -n interlock-approval -f KEY
s.json`, an agent, or a hardware key.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from interlock.apps.cli.output import Output, emit, hint

if TYPE_CHECKING:
    from interlock.trust.event import NewEvent
    from interlock.trust.people import Person
    from interlock.trust.quorum import Signed
    from interlock.trust.statement import Statement, Subject

_Repo = Annotated[Path, typer.Option("--repo", help="A working copy, with the release's branch checked out.")]
_DAYS_NS = 86_400 * 1_000_000_000


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("statement")(statement)
    app.command("approve")(approve)


def statement(  # long: the options of one command
    service: Annotated[str, typer.Argument(help="The service to release.")],
    role: Annotated[str, typer.Option(help="As what you look at it: technical, risk or compliance.")],
    person: Annotated[str, typer.Option(help="Your id in people.json.")],
    repo: _Repo = Path(),
    ticket: Annotated[str | None, typer.Option(help="Ticket; the training's own if not given.")] = None,
    reason: Annotated[str, typer.Option(help="Why, in a sentence.")] = "reviewed card, metrics and policy",
    decision: Annotated[Literal["approve", "refuse"], typer.Option(help="Your word.")] = "approve",
    expires_days: Annotated[int, typer.Option(min=1, max=90, help="Days until it no longer counts.")] = 30,
) -> None:
    """Print the statement to sign: what exactly is to be released, by digest. Save it as a file and sign that."""
    import sys

    from interlock import settings
    from interlock.apps.control.subject import proposed
    from interlock.base.clock import SystemClock
    from interlock.registry import bundle as bundles
    from interlock.trust.statement import Statement, parse, statement_bytes

    current = settings.load()
    _, subject = proposed(repo, service, current)
    if ticket is None:
        ticket = str(bundles.read(current.places.bundles, subject.bundle).lineage.get("ticket", "none"))
    expires_ns = SystemClock().now_ns() + expires_days * _DAYS_NS
    data = statement_bytes(Statement(subject, person, role, decision, ticket, reason, expires_ns))
    parse(data)  # what cannot be read back must not be signed
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    hint("ssh-keygen -Y sign -n interlock-approval -f KEY s.json, then `interlock approve s.json s.json.sig`")


def approve(
    statement_file: Annotated[Path, typer.Argument(metavar="STATEMENT", exists=True, dir_okay=False)],
    signature_file: Annotated[Path, typer.Argument(metavar="SIGNATURE", exists=True, dir_okay=False)],
    repo: _Repo = Path(),
    output: Output = "table",
) -> None:
    """Check a signed statement as the gate will, commit it on the release's branch, and record it."""
    from interlock import settings
    from interlock.apps.control.client import ControlClient
    from interlock.apps.control.subject import governed, proposed
    from interlock.base.clock import SystemClock
    from interlock.base.errors import InterlockError
    from interlock.trust.people import People
    from interlock.trust.quorum import Signed, check_one
    from interlock.trust.statement import parse

    current, clock = settings.load(), SystemClock()
    data, signature = statement_file.read_bytes(), signature_file.read_text(encoding="ascii", errors="replace")
    given = parse(data)
    wish, subject = proposed(repo, given.subject.service, current)
    people = People.parse(governed(wish)[0])
    signed = Signed(f"{given.person}.{given.role}", data, signature)
    with ControlClient.open(current) as client:
        try:
            approval = check_one(signed, people, subject, clock.now_ns())
        except InterlockError as error:
            client.append(_refused(given, subject, error.message))
            raise
        commit, pushed = _hand_in(repo, people.person(given.person), given, signed)
        client.append(_recorded(given, approval.key, commit))
    emit(
        output,
        {"person": given.person, "role": given.role, "folder": subject.folder, "commit": commit, "pushed": pushed},
    )


def _hand_in(repo: Path, person: Person, given: Statement, signed: Signed) -> tuple[str, bool]:
    """Commit the two files on the release's branch, as the person who signed; the commit, and whether it is pushed."""
    from interlock.adapters.git.workspace import Workspace
    from interlock.base.canonical import digest_hex

    work = Workspace(repo, (person.name, person.emails[0]) if person.emails else None)
    place = f"approvals/{digest_hex(given.subject.folder)}/{signed.name}"
    files = {f"{place}.json": signed.statement, f"{place}.sig": signed.signature.encode()}
    what = f"{given.subject.service} {given.subject.version} as {given.role}"
    commit = work.commit(files, f"{given.decision.capitalize()} {what}")
    return commit, work.push()


def _recorded(given: Statement, key: str, commit: str) -> NewEvent:
    return _event("approval.recorded", given.person, given, given.subject, {"key": key, "commit": commit})


def _refused(given: Statement, subject: Subject, reason: str) -> NewEvent:
    # Whoever handed it in: the person it names may have signed nothing.
    return _event("approval.refused", "cli", given, subject, {"reason": reason})


def _event(kind: str, actor: str, given: Statement, subject: Subject, more: dict[str, str]) -> NewEvent:
    from interlock.trust.event import NewEvent

    body = {
        "service": subject.service,
        "version": subject.version,
        "folder": subject.folder,
        "person": given.person,
        "role": given.role,
        "decision": given.decision,
        **more,
    }
    return NewEvent(
        time_ns=0,  # the control API stamps it
        type=kind,
        actor=actor,
        origin="cli",
        object=f"service/{subject.service}",
        outcome="refused" if kind == "approval.refused" else "success",
        body=body,
    )
