"""The scoring job: `interlock score`, from an input of Parquet to an output of scores.

What is durable, in this order: each unit's files, the velocities, the joined outputs, the targets,
the event `batch.scored`, and last the manifest beside the target, which says that the output is
whole. A job that stops anywhere, a kill included, is run again and goes on: its output is byte for
byte that of a job that never stopped. The event may then stand twice (it names the same digests).
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from interlock.adapters.arrow import columns, sink
from interlock.adapters.arrow.source import Source, locate, refuse_changed
from interlock.apps.control.client import ControlClient
from interlock.apps.job import score_units as units
from interlock.apps.job.score_crew import Crew, Task
from interlock.apps.job.score_model import Chosen, choose
from interlock.apps.job.score_plan import RAW, VECTORS, Desk, Plan, PlannedPart, open_desk
from interlock.apps.job.score_velocity import velocities
from interlock.base.canonical import canonical, sha256_hex
from interlock.base.clock import NS_PER_S, Clock
from interlock.base.errors import IntegrityError, RefusedError, UnreachableError, UsageError
from interlock.decision.decide import Model
from interlock.features.definition import FeatureSet
from interlock.privacy.pan import refuse_sensitive
from interlock.serving import bulk
from interlock.settings import Settings
from interlock.trust.event import NewEvent
from interlock.wiring import job

Report = Callable[[str, int, int], None]
"""Told a step, how much of it is done, and of how much."""
_SUFFIX = ".parquet"
_PACKAGES = ("interlock", "numpy", "onnxruntime", "pyarrow")


@dataclass(frozen=True)
class Request:
    """What to score, with what, and how.

    Attributes:
        source: Parquet file, folder or URI.
        target: file or URI ending in `.parquet`, else a folder that mirrors the input's.
        service: whose serving model is taken; or
        bundle: digest of the bundle to take.
        history: snapshot that velocities start from: a digest, TABLE or TABLE:VERSION; None: nothing.
        workers: processes.
        mode: `raw`, `vectors`, or `auto`: vectors when every feature of the model is a column.
        strict: one rejected row fails the whole.
        with_vectors: put the vector beside the score.
        research: take a bundle without an admission, and say so in the output.
        user: who asks.
    """

    source: str
    target: str
    service: str | None = None
    bundle: str | None = None
    history: str | None = None
    workers: int = 1
    mode: str = "auto"
    strict: bool = False
    with_vectors: bool = False
    research: bool = False
    user: str = "unknown"


def score(settings: Settings, request: Request, clock: Clock, report: Report) -> dict[str, Any]:
    """Score the input; returns what the manifest says, and how fast it was.

    Raises:
        UsageError: the input, or what was asked for, is malformed.
        RefusedError: no admission stands; or a row was rejected and the request is strict.
        IntegrityError: the input changed meanwhile, or bytes are not what they claim.
        UnreachableError: a place, or a process, went away: run it again.
    """
    started = clock.monotonic_ns()
    if not 1 <= request.workers <= 4 * (os.cpu_count() or 1):
        raise UsageError("a number of workers that makes no sense", "give 1 up to four times the cores")
    chosen = choose(settings, request.service, request.bundle, request.research)
    model = job.open_bundle(settings, chosen.bundle)
    source = Source(request.source)
    _refuse_overlap(source, request)
    plan = _plan(settings, request, chosen, model, source)
    manifest = _finished(plan, request)
    if manifest is None:
        folder = settings.home / "batches" / plan.key
        desk, lock = open_desk(folder, plan)
        try:
            facts = _work(settings, request, (plan, desk), model, report)
            refuse_changed(source, source.parts)
            manifest = _deliver(settings, request, (plan, desk), facts, clock)
            shutil.rmtree(folder, ignore_errors=True)
        except (RefusedError, IntegrityError):
            # Another input must come: this work is of no use to anybody.
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            os.close(lock)
    seconds = (clock.monotonic_ns() - started) / NS_PER_S
    return manifest | {"seconds": round(seconds, 3), "rows_per_second": round(manifest["rows"] / seconds)}


def _refuse_overlap(source: Source, request: Request) -> None:
    """An output must never replace an input, nor be taken for one by the next run."""
    here, there = locate(request.source)[1].rstrip("/"), locate(request.target)[1].rstrip("/")
    taken = {part.path for part in source.parts}
    if source.folder and f"{there}/".startswith(f"{here}/"):
        taken.add(there)
    if taken & {there, *(locate(place)[1] for place in _beside(request.target))}:
        raise UsageError("the output would lie in the input", "choose another place for it")


def _plan(settings: Settings, request: Request, chosen: Chosen, model: Model, source: Source) -> Plan:
    features = FeatureSet.from_json(model.manifest["feature_set"])
    shapes = [source.shape(part) for part in source.parts]
    named = [[name for name, _ in shape.columns] for shape in shapes]
    for names in named:
        refuse_sensitive(names)
        if len(set(names)) != len(names):
            raise UsageError("an input with two columns of one name", "write it with each name once")
    mode = request.mode
    if mode == "auto":
        mode = VECTORS if all(set(features.names) <= set(names) for names in named) else RAW
    if mode not in (RAW, VECTORS):
        raise UsageError("an unknown mode", f"known: auto, {RAW}, {VECTORS}")
    if mode == VECTORS:
        for shape in shapes:
            columns.refuse_other_vectors(shape.columns, features.names)
            if "transaction_id" not in dict(shape.columns):
                raise UsageError("vectors without transaction_id", "add the column")
        if request.history is not None:
            raise UsageError("vectors have no history to start from", "leave --history out")
        read = ("transaction_id", *features.names)
    else:
        for names in named:
            bulk.refuse_missing(names)
        read = tuple(sorted(bulk.FIELDS.intersection({name for names in named for name in names})))
    history = job.history(settings, request.history).digest if request.history is not None else None
    parts = tuple(
        PlannedPart(part.name, part.path, part.size, part.mtime_ns, source.digest(part), shape.groups)
        for part, shape in zip(source.parts, shapes, strict=True)
    )
    return Plan(
        home=str(settings.home),
        source=request.source if "://" in request.source else str(Path(request.source).absolute()),
        parts=parts,
        mode=mode,
        columns=read,
        service=chosen.service,
        version=model.version,
        bundle=chosen.bundle,
        threshold_set=model.threshold_set,
        feature_set=model.feature_set,
        admission=chosen.folder,
        history=history,
        window_s=settings.store.window_s,
        with_vectors=request.with_vectors,
        packages={name: metadata.version(name) for name in _PACKAGES},
    )


def _work(
    settings: Settings, request: Request, what: tuple[Plan, Desk], model: Model, report: Report
) -> dict[str, dict[int, dict[str, Any]]]:
    """Everything up to scored units; facts by step and unit."""
    plan, desk = what
    size = min(request.workers, max(1, len(plan.units)))
    with Crew(desk.folder, size) as crew:
        if plan.mode == VECTORS:
            found = _step(crew, what, "vectors", {unit.number: 0 for unit in plan.units}, report)
            _refuse_if_strict(request, desk, found)
            return {"rows": found, "scores": found}
        rows = _step(crew, what, "take", {unit.number: 0 for unit in plan.units}, report)
        _refuse_if_strict(request, desk, rows)
        report("velocities", 0, 1)
        features = FeatureSet.from_json(model.manifest["feature_set"])

        def before() -> Any:
            return job.history_events(settings, plan.history) if plan.history is not None else None

        velocities(plan, desk, features, job.engine(request.workers), before)
        report("velocities", 1, 1)
        starts, start = {}, 0
        for unit in plan.units:
            starts[unit.number] = start
            start += rows[unit.number]["kept"]
        return {"rows": rows, "scores": _step(crew, what, "score", starts, report)}


def _step(
    crew: Crew, what: tuple[Plan, Desk], step: str, starts: dict[int, int], report: Report
) -> dict[int, dict[str, Any]]:
    """Do a step of every unit that has not finished it."""
    plan, desk = what
    found: dict[int, dict[str, Any]] = {}
    sizes = {unit.number: plan.parts[unit.part].groups[unit.group] for unit in plan.units}
    for number in starts:
        known = desk.finished(f"{step}-{number:06d}")
        if known is not None:
            found[number] = known
    count = sum(sizes[number] for number in found)
    report(step, count, plan.rows)

    def done(task: Task, facts: dict[str, Any]) -> None:
        nonlocal count
        found[task[1]] = facts
        count += sizes[task[1]]
        report(step, count, plan.rows)

    crew.run([(step, number, start) for number, start in starts.items() if number not in found], done)
    return found


def _refuse_if_strict(request: Request, desk: Desk, rows: dict[int, dict[str, Any]]) -> None:
    rejected = sum(facts["rejected"] for facts in rows.values())
    if request.strict and rejected:
        reasons = Counter(
            reason
            for number in sorted(rows)
            if rows[number]["rejected"]
            for reason in sink.reasons(desk.folder / units.rejects_file(number))
        )
        told = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
        raise RefusedError(f"{rejected} rows break a rule: {told}", "correct them, or score without --strict")


@dataclass(frozen=True)
class _Targets:
    """Where a batch's outputs go: one place per part, or one for all; and what stands beside them."""

    outputs: tuple[tuple[str, tuple[int, ...]], ...]
    rejects: str
    manifest: str


def _targets(plan: Plan, request: Request) -> _Targets:
    numbers: dict[int, list[int]] = {index: [] for index in range(len(plan.parts))}
    for unit in plan.units:
        numbers[unit.part].append(unit.number)
    base, _ = _split(request.target)
    if base.endswith(_SUFFIX):
        outputs = [(request.target, tuple(unit.number for unit in plan.units))]
    else:
        outputs = [(_named(request.target, f"/{plan.parts[part].name}"), tuple(mine)) for part, mine in numbers.items()]
    return _Targets(tuple(outputs), *_beside(request.target))


def _beside(target: str) -> tuple[str, str]:
    """Where the rejected rows and the manifest go."""
    return _named(target, f".rejects{_SUFFIX}"), _named(target, ".manifest.json")


def _named(target: str, tail: str) -> str:
    """`target` with another ending."""
    base, query = _split(target)
    return base.removesuffix(_SUFFIX).rstrip("/") + tail + query


def _split(target: str) -> tuple[str, str]:
    """A place, and the query of its URI (`?endpoint_override=…`), which stays at the end."""
    base, mark, query = target.partition("?") if "://" in target else (target, "", "")
    return base, mark + query


def _finished(plan: Plan, request: Request) -> dict[str, Any] | None:
    """The manifest of this very batch, if its outputs are whole at the target."""
    targets = _targets(plan, request)
    data = sink.fetch(targets.manifest)
    try:
        manifest: dict[str, Any] = json.loads(data or b"null")
        if manifest["key"] != plan.key:
            return None
        whole = all(sink.digest(place) == digest for place, digest in _expected(manifest, targets))
    except (ValueError, KeyError, TypeError):
        return None
    return manifest if whole and not (request.strict and manifest["rejected"]) else None


def _expected(manifest: dict[str, Any], targets: _Targets) -> list[tuple[str, str]]:
    places = [place for place, _ in targets.outputs]
    return [*zip(places, manifest["outputs"], strict=True), (targets.rejects, manifest["rejects"])]


def _deliver(
    settings: Settings,
    request: Request,
    what: tuple[Plan, Desk],
    facts: dict[str, dict[int, dict[str, Any]]],
    clock: Clock,
) -> dict[str, Any]:
    """Join, publish, tell, and write the manifest."""
    plan, desk = what
    targets = _targets(plan, request)
    features = FeatureSet.from_json(job.open_bundle(settings, plan.bundle).manifest["feature_set"])
    schema = sink.output_schema(features.width if plan.with_vectors else None, plan.metadata())
    joined: list[tuple[Path, str]] = []
    for index, (place, numbers) in enumerate(targets.outputs):
        path = desk.folder / f"output-{index:06d}{_SUFFIX}"
        sink.join([desk.folder / units.scored_file(number) for number in numbers], schema, path)
        joined.append((path, place))
    path = desk.folder / f"rejected{_SUFFIX}"
    sink.join([desk.folder / units.rejects_file(unit.number) for unit in plan.units], sink.REJECTS, path)
    digests = [sink.digest(str(each)) for each, _ in joined]
    body = _body(plan, facts) | {"outputs": digests, "rejects": sink.digest(str(path))}
    for source, place in [*joined, (path, targets.rejects)]:
        sink.publish(source, place)
    recorded = _tell(settings, request, body, clock)
    manifest = body | {"event_recorded": recorded}
    (desk.folder / "manifest.json").write_bytes(canonical(manifest))
    sink.publish(desk.folder / "manifest.json", targets.manifest)
    return manifest


def _body(plan: Plan, facts: dict[str, dict[int, dict[str, Any]]]) -> dict[str, Any]:
    decisions: Counter[str] = Counter()
    for each in facts["scores"].values():
        decisions.update(each["decisions"])
    return {
        "key": plan.key,
        "mode": plan.mode,
        "service": plan.service,
        "version": plan.version,
        "bundle": plan.bundle,
        "threshold_set": plan.threshold_set,
        "admission": plan.admission,
        "unadmitted_research": plan.admission is None,
        "history": plan.history,
        "input": plan.input_digest,
        "rows": plan.rows,
        "scored": sum(each["kept"] for each in facts["rows"].values()),
        "rejected": sum(each["rejected"] for each in facts["rows"].values()),
        "repeated": sum(each["repeated"] for each in facts["scores"].values()),
        "decisions": dict(sorted(decisions.items())),
    }


def _tell(settings: Settings, request: Request, body: dict[str, Any], clock: Clock) -> bool:
    """Append `batch.scored`; False when no events table could be reached: then the manifest alone says so."""
    named = {name: value for name, value in body.items() if name not in ("outputs", "key")}
    event = NewEvent(
        time_ns=clock.now_ns(),
        type="batch.scored",
        actor=request.user,
        origin="job",
        object=f"service/{body['service']}",
        outcome="success",
        # A folder may have more parts than an event has room for: their digests by one digest.
        body=named | {"output": f"sha256:{sha256_hex(canonical(body['outputs']))}"},
    )
    try:
        with ControlClient.open(settings) as control:
            control.append(event)
    except UnreachableError:
        return False
    return True
