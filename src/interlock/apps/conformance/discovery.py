"""What the suite learns of a server before it judges: names, metadata, a valid input, what it returns.

Contract. Only GETs and valid inferences are sent. What cannot be learnt stays empty, and the cases
that need it are inconclusive with that reason: discovery never fails a server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from interlock.apps.conformance.asking import JSON, all_binary, content, infer, model_path, one
from interlock.apps.conformance.case import Reply, Request, Subject
from interlock.apps.conformance.connection import Door, hold
from interlock.apps.conformance.judging import body_of, differences, outputs_of
from interlock.apps.conformance.tensors import Sample, Unreadable, sample_of, samples_from
from interlock.base.errors import UsageError

_ALONE = 4
"""Inputs that are tried alone at most."""


@dataclass(frozen=True, slots=True)
class Example:
    """Valid inputs that the caller gives: V2 tensors, V1 instances, or both."""

    inputs: tuple[Sample, ...] = ()
    instances: tuple[Any, ...] | None = None


def example(path: Path | None) -> Example:
    """An example file: `{"inputs": [$request_input, …], "instances": […]}`, each optional.

    Raises:
        UsageError: it cannot be read, or holds neither.
    """
    if path is None:
        return Example()
    remedy = 'write {"inputs": [{"name", "shape", "datatype", "data"}], "instances": […]}'
    try:
        found = json.loads(path.read_bytes())
        inputs = samples_from(found.get("inputs") or [])
        instances = tuple(found["instances"]) if "instances" in found else None
    except (OSError, ValueError, AttributeError, TypeError, Unreadable) as error:
        raise UsageError("the example file cannot be used", remedy) from error
    if not inputs and instances is None:
        raise UsageError("the example file holds neither inputs nor instances", remedy)
    return Example(inputs, instances)


async def discover(door: Door, model: str, version: str, given: Example, with_repository: bool) -> Subject:
    """The subject behind a door.

    Args:
        door: where it is.
        model: its name; empty: the first that the server lists.
        version: an explicit version; empty: the first that the metadata lists.
        given: valid inputs; what it does not give is made from the metadata.
        with_repository: load and unload may be called.

    Raises:
        UnreachableError: the server cannot be connected to.
        UsageError: no model is named and the server lists none.
    """
    server = await _object(door, "/v2")
    name = model or await _first_model(door)
    found = Subject(name, version, server, with_repository=with_repository)
    metadata = await _object(door, model_path(found))
    versions = metadata.get("versions")
    listed = str(versions[0]) if isinstance(versions, list) and versions else ""
    inputs = given.inputs or await _accepted(door, replace(found, metadata=metadata))
    spoken = bool(await _object(door, "/v1/models") or await _object(door, f"/v1/models/{quote(name, safe='')}"))
    found = replace(found, v1=spoken, version=version or listed, metadata=metadata, inputs=inputs)
    found = replace(found, instances=given.instances if given.instances is not None else _instances(inputs))
    if given.instances is None and not await _predicts(door, found):
        found = replace(found, instances=None)
    return await _probe(door, found) if inputs else found


async def _accepted(door: Door, subject: Subject) -> tuple[Sample, ...]:
    """The inputs that the metadata lists; where those together are refused, the first that is answered alone."""
    whole = _sample(subject.metadata)
    for inputs in (whole, *((each,) for each in whole[:_ALONE])):
        if (
            inputs
            and (await hold(door, one(infer(subject, content(replace(subject, inputs=inputs))))))[0].status == 200
        ):
            return inputs
    return whole


def _sample(metadata: Mapping[str, Any]) -> tuple[Sample, ...]:
    try:
        return sample_of(metadata)
    except (TypeError, ValueError, AttributeError):
        return ()


def _instances(inputs: Sequence[Sample]) -> tuple[Any, ...] | None:
    """V1 rows made of a single tensor's rows; nothing otherwise."""
    if len(inputs) != 1 or not inputs[0].shape:
        return None
    rows: list[Any] = inputs[0].as_json(nested=True)["data"]
    return tuple(rows)


async def _predicts(door: Door, subject: Subject) -> bool:
    if subject.instances is None:
        return False
    body = json.dumps({"instances": subject.instances}).encode()
    path = f"/v1/models/{quote(subject.model, safe='')}:predict"
    (reply,) = await hold(door, one(Request("POST", path, body, (JSON,))))
    return reply.status == 200


async def _probe(door: Door, subject: Subject) -> Subject:
    """What a valid inference returns, whether twice the same, and whether binary inputs are taken."""
    replies = [(await hold(door, one(infer(subject, content(subject)))))[0] for _ in range(2)]
    try:
        first, second = map(outputs_of, replies)
    except Unreadable:
        return subject
    (binary,) = await hold(door, one(all_binary(subject)))
    return replace(
        subject,
        outputs=tuple(each.name for each in first),
        repeatable=not list(differences(first, second)),
        binary=binary.status == 200,
    )


async def _first_model(door: Door) -> str:
    for path in ("/v2/models", "/v1/models"):
        listed = (await _object(door, path)).get("models")
        if isinstance(listed, list) and listed:
            first = listed[0]
            return str(first.get("name", "") if isinstance(first, dict) else first)
    (reply,) = await hold(door, one(Request("POST", "/v2/repository/index", b"{}", (JSON,))))
    entries = _json(reply)
    if isinstance(entries, list) and entries and isinstance(entries[0], dict) and entries[0].get("name"):
        return str(entries[0]["name"])
    raise UsageError("the server lists no model", "name it with --model NAME")


async def _object(door: Door, path: str) -> dict[str, Any]:
    (reply,) = await hold(door, one(Request("GET", path)))
    found = _json(reply)
    return found if isinstance(found, dict) else {}


def _json(reply: Reply) -> Any:
    if reply.status != 200:
        return None
    try:
        return body_of(reply)
    except Unreadable:
        return None
