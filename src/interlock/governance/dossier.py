"""A decision's whole proof: from the record to the people who allowed the model, link by link.

Contract. Every link is judged on its own and names what it rests on; a dossier is *pass* only if
every link is. What is damaged or contradicts itself is *fail*; what cannot be judged yet or here
(a segment not sealed, a seal not in the log, a bundle that is not at hand) is *inconclusive* and
says what to wait for. Nothing is taken from a database: records, log, admissions and bundles are
verified by digest, signature and proof from the bytes at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from interlock.base.canonical import digest_hex
from interlock.base.clock import rfc3339
from interlock.base.errors import IntegrityError, InterlockError, RefusedError, UnreachableError, UsageError
from interlock.base.verdict import Verdict, worst
from interlock.decision import seal as seals
from interlock.decision.archive import Archive, Found
from interlock.decision.decide import Cuts
from interlock.decision.record import DecisionRecord
from interlock.registry import bundle as bundles
from interlock.registry.bundle import Bundle
from interlock.trust.event import Event

Evidence = dict[str, Any]


@dataclass(frozen=True)
class Link:
    """One link of the chain.

    Attributes:
        name: which.
        verdict: whether it holds.
        says: one sentence for people.
        evidence: digests, indexes and names it rests on; plain JSON values.
        finding: the kind of what is wrong, for programs; empty when it holds.
    """

    name: str
    verdict: Verdict
    says: str
    evidence: Evidence
    finding: str = ""


@dataclass(frozen=True)
class Dossier:
    """The links of one decision, in order."""

    decision: str
    links: tuple[Link, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of its links."""
        return worst(link.verdict for link in self.links)

    def link(self, name: str) -> Link | None:
        """The link of that name."""
        return next((link for link in self.links if link.name == name), None)


class Ledger(Protocol):
    """The transparency log, read without trusting whoever keeps it."""

    def events(self, kinds: Collection[str]) -> Sequence[Event]:
        """The logged events of these types, by log index.

        Raises:
            IntegrityError: the log is not what its signed checkpoint says.
        """
        ...

    def prove(self, index: int) -> Evidence:
        """Check that the entry belongs to the tree under the signed checkpoint, and say how.

        Raises:
            IntegrityError: it does not.
        """
        ...


Verify = Callable[[bytes, str, str, str], Evidence]
"""(admission file, service, bundle, folder) → `approvals` [{person, role}], `log_index` and what else was proven;
raises if it does not stand."""


@dataclass(frozen=True)
class Sources:
    """Where the proof is looked for.

    Attributes:
        archive: the decision segments.
        ledger: the log.
        bundles: the folder of bundles.
        admissions: the folder of admissions.
        verify: judges an admission under the auditor's trust root.
    """

    archive: Archive
    ledger: Ledger
    bundles: Path
    admissions: Path
    verify: Verify


def find(archive: Archive, decision: str) -> Found:
    """The record of a decision.

    Raises:
        UsageError: no segment at hand holds it.
        IntegrityError: a segment is damaged or gone.
    """
    found = archive.find(decision)
    if found is None:
        raise UsageError("no such decision in the segments at hand", "take the decision_id of a reply")
    return found


def prove(decision: str, sources: Sources) -> Dossier:
    """Judge every link from a decision to the people who allowed its model.

    Raises:
        UsageError: there is no such decision.
        IntegrityError: the segment that would hold it is damaged or gone.
    """
    found = find(sources.archive, decision)
    links = [
        Link("record", Verdict.PASS, f"record {found.index} of segment {found.segment}", _record(found)),
        judged("segment", lambda: _segment(found, sources.archive)),
        judged("log", lambda: _log(found, sources.ledger)),
    ]
    if not found.record.bundle:
        says = "no model decided: the service's constant fallback answered"
        links.append(Link("model", Verdict.INCONCLUSIVE, says, {"degraded": found.record.degraded}, "fallback"))
        return Dossier(decision, tuple(links))
    admission = judged("admission", lambda: _admission(found, sources))
    links += [
        admission,
        judged("release", lambda: _release(found, sources.ledger, admission.evidence.get("log_index"))),
        judged("bundle", lambda: _bundle(found, sources.bundles)),
        judged("lineage", lambda: _lineage(found, sources)),
    ]
    return Dossier(decision, tuple(links))


def judged(name: str, check: Callable[[], tuple[str, Evidence]]) -> Link:
    """The link that a check gives: what it says when it holds, or which error it met."""
    try:
        says, evidence = check()
    except InterlockError as error:
        return failed(name, error)
    return Link(name, Verdict.PASS, says, evidence)


def failed(name: str, error: InterlockError) -> Link:
    """The link that met this error."""
    verdict, finding = _verdict_of(error)
    return Link(name, verdict, error.message, {"remedy": error.remedy}, finding)


def _verdict_of(error: InterlockError) -> tuple[Verdict, str]:
    if isinstance(error, IntegrityError):
        return Verdict.FAIL, "integrity"
    if isinstance(error, RefusedError):
        return Verdict.FAIL, "refused"
    if isinstance(error, UnreachableError):
        return Verdict.ERROR, "unreachable"
    return Verdict.INCONCLUSIVE, "missing"


def _record(found: Found) -> Evidence:
    one = found.record
    return {
        "segment": found.segment,
        "index": found.index,
        "transaction_id": one.transaction_id,
        "service": one.service,
        "version": one.version,
        "arm": one.arm,
        "decision": one.decision,
        "received": rfc3339(one.received_ns),
    }


def _segment(found: Found, archive: Archive) -> tuple[str, Evidence]:
    proof = archive.proof(found)
    path = [each.hex() for each in proof.path]
    evidence = {"root": proof.root.hex(), "index": proof.index, "size": proof.size, "path": path}
    return f"the record is leaf {proof.index} of {proof.size} under the segment's root", evidence


def _log(found: Found, ledger: Ledger) -> tuple[str, Evidence]:
    if found.seal is None:
        raise UsageError("the segment is not sealed yet", "wait for the next seal")
    for event in ledger.events(("segment.sealed",)):
        if event.body.get("segment") == found.segment:
            if seals.of_body(event.body) != found.seal:
                raise IntegrityError("the log states another seal for this segment", "keep both: one was replaced")
            return f"the seal is entry {event.log_index} of the log", _proven(event, ledger)
    raise UsageError("the seal is not in the log yet", "wait until the controller has logged it")


def _admission(found: Found, sources: Sources) -> tuple[str, Evidence]:
    one = found.record
    path = sources.admissions / digest_hex(one.bundle) / f"{digest_hex(one.folder)}.json"
    if not path.exists():
        raise UsageError("the admission file is not at hand", "copy it from the scorer that served")
    evidence = sources.verify(path.read_bytes(), one.service, one.bundle, one.folder)
    people = ", ".join(f"{each['person']} ({each['role']})" for each in evidence.get("approvals", []))
    return f"quorum of {people or 'the policy'} over exactly this bundle and service folder", evidence


def _release(found: Found, ledger: Ledger, index: int | None) -> tuple[str, Evidence]:
    """The log's word on the admission that stood: entry `index`, or an earlier one of the same release."""
    one = found.record
    for event in ledger.events(("release.admitted",)):
        same = (event.body.get("bundle"), event.body.get("folder")) == (one.bundle, one.folder)
        # A later admission of the same release cannot have allowed this decision.
        if (event.log_index == index or same) and event.time_ns <= one.received_ns:
            return f"admitted at {rfc3339(event.time_ns)}, entry {event.log_index} of the log", _proven(event, ledger)
    raise UsageError("no admission before this decision is in the log", "verify the log and the admission file")


def _bundle(found: Found, folder: Path) -> tuple[str, Evidence]:
    one, content = found.record, bundles.read(folder, found.record.bundle)
    stated = agree(one, content)
    return f"every file of the bundle has its digest, and is version {one.version}", {"bundle": one.bundle, **stated}


def agree(one: DecisionRecord, content: Bundle) -> Evidence:
    """What record and bundle both say about the model.

    Raises:
        IntegrityError: they differ, or the threshold set does not give the recorded decision.
    """
    stated = {
        "version": content.manifest.get("version"),
        "service": content.manifest.get("service"),
        "feature_set": content.manifest.get("feature_set_digest"),
        "threshold_set": content.threshold_set,
    }
    recorded = {name: getattr(one, name) for name in stated}
    if stated != recorded:
        wrong = ", ".join(name for name in stated if stated[name] != recorded[name])
        raise IntegrityError(f"the record and the bundle disagree about {wrong}", "keep both as evidence")
    if one.score is not None and Cuts.parse(content.thresholds).decide(one.score) != one.decision:
        raise IntegrityError("the threshold set gives another decision for the recorded score", "keep both as evidence")
    return stated


def _lineage(found: Found, sources: Sources) -> tuple[str, Evidence]:
    bundle = found.record.bundle
    content = bundles.read(sources.bundles, bundle)
    for event in sources.ledger.events(("model.registered",)):
        if event.body.get("bundle") == bundle:
            told = _told(content, event)
            return f"trained by run {told['run_id']} on {told['dataset']}", {**told, **_proven(event, sources.ledger)}
    raise UsageError("the model's registration is not in the log", "verify the log, or register the model")


def _told(content: Bundle, event: Event) -> Evidence:
    """What bundle and log both say about the model's origin.

    Raises:
        IntegrityError: they differ.
    """
    told: Evidence = {}
    for name in ("dataset", "run_id", "commit", "trained_by", "lock"):
        inside, logged = content.lineage.get(name), event.body.get(name)
        if None not in (inside, logged) and inside != logged:
            raise IntegrityError(f"bundle and log disagree about the model's {name}", "keep both as evidence")
        told[name] = logged if inside is None else inside
    return told


def _proven(event: Event, ledger: Ledger) -> Evidence:
    if event.log_index is None:
        raise UsageError("the event has no place in the log yet", "wait for the sequencer")
    return ledger.prove(event.log_index)
