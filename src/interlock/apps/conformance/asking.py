"""Requests that cases send, built from what is known of the server. Pure."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from interlock.apps.conformance.case import Dialogue, NotApplicable, Request, Subject
from interlock.apps.conformance.tensors import FORMATS, Sample

NOBODY = "no-such-model-conformance"
"""A name that no server serves."""
JSON = ("Content-Type", "application/json")
OCTETS = ("Content-Type", "application/octet-stream")
HEADER_LENGTH = "Inference-Header-Content-Length"

Ask = Callable[[Subject], Dialogue]
Order = Callable[[Subject], tuple[Sample, ...]]


def one(request: Request, **framing: bool) -> Dialogue:
    """A dialogue of one request."""
    return Dialogue((request,), **framing)


def fixed(method: str, target: str, body: bytes = b"", headers: tuple[tuple[str, str], ...] = ()) -> Ask:
    """The same request whatever the server."""
    return lambda subject: one(Request(method, target, body, headers))


def model_path(subject: Subject, rest: str = "", version: str | None = None, model: str | None = None) -> str:
    """`/v2/models/{m}[/versions/{v}]…`."""
    path = f"/v2/models/{quote(model or subject.model, safe='')}"
    return path + (f"/versions/{quote(version, safe='')}" if version else "") + rest


def of_model(method: str, rest: str = "", model: str | None = None) -> Ask:
    """A request without a body about the model (or another)."""
    return lambda subject: one(Request(method, model_path(subject, rest, model=model)))


def of_version(rest: str = "", version: str | None = None) -> Ask:
    """A GET about an explicit version."""

    def ask(subject: Subject) -> Dialogue:
        if version is None and not subject.version:
            raise NotApplicable("the model's metadata lists no versions")
        return one(Request("GET", model_path(subject, rest, version or subject.version)))

    return ask


# --- inference --------------------------------------------------------------------------------------


def samples(subject: Subject) -> tuple[Sample, ...]:
    """The valid inputs."""
    if not subject.inputs:
        raise NotApplicable("no valid input is known: the metadata lists none; give one with --example")
    return subject.inputs


def text_first(subject: Subject) -> tuple[Sample, ...]:
    """The valid inputs, one of BYTES at their head."""
    found = sorted(samples(subject), key=lambda each: each.datatype != "BYTES")
    if found[0].datatype != "BYTES":
        raise NotApplicable("no input is BYTES")
    return tuple(found)


def numbers_first(subject: Subject) -> tuple[Sample, ...]:
    """The valid inputs, a numeric one at their head."""
    found = sorted(samples(subject), key=lambda each: each.datatype not in FORMATS)
    if found[0].datatype not in FORMATS:
        raise NotApplicable("every input is BYTES")
    return tuple(found)


def content(subject: Subject, inputs: Sequence[Any] | None = None, **more: Any) -> dict[str, Any]:
    """An `$inference_request`; without `inputs` the valid ones, flat."""
    found = [each.as_json() for each in samples(subject)] if inputs is None else list(inputs)
    return {"inputs": found, **more}


def post(subject: Subject, body: bytes, *headers: tuple[str, str], path: str = "") -> Request:
    """A POST to the model's infer endpoint."""
    return Request("POST", path or model_path(subject, "/infer"), body, headers)


def infer(subject: Subject, body: Mapping[str, Any], path: str = "") -> Request:
    """An inference with that JSON body."""
    return post(subject, json.dumps(body).encode(), JSON, path=path)


def plain(subject: Subject) -> Dialogue:
    """One valid inference."""
    return one(infer(subject, content(subject)))


def inferring(**more: Any) -> Ask:
    """A valid inference with further members."""
    return lambda subject: one(infer(subject, content(subject, **more)))


def changed(change: Callable[[dict[str, Any], Sample], dict[str, Any]], order: Order = samples) -> Ask:
    """An inference whose first input, in that order, is changed."""

    def ask(subject: Subject) -> Dialogue:
        first, *rest = order(subject)
        inputs = [change(first.as_json(), first), *(each.as_json() for each in rest)]
        return one(infer(subject, {"inputs": inputs}))

    return ask


def with_body(build: Callable[[bytes], bytes], *headers: tuple[str, str], order: Order = samples) -> Ask:
    """The bytes of a valid inference, rewritten."""

    def ask(subject: Subject) -> Dialogue:
        body = json.dumps(content(subject, [each.as_json() for each in order(subject)])).encode()
        return one(post(subject, build(body), *(headers or (JSON,))))

    return ask


def compressed(body: bytes) -> bytes:
    """A body in gzip, the same each time."""
    return gzip.compress(body, mtime=0)


# --- binary -----------------------------------------------------------------------------------------


def framed(header: Mapping[str, Any], *data: bytes) -> tuple[bytes, tuple[str, str]]:
    """JSON followed by binary data, and the header that says where the JSON ends."""
    text = json.dumps(header).encode()
    return text + b"".join(data), (HEADER_LENGTH, str(len(text)))


def all_binary(subject: Subject, **more: Any) -> Request:
    """A valid inference, every input binary."""
    inputs = samples(subject)
    body, length = framed(
        {"inputs": [each.as_binary() for each in inputs], **more}, *(each.packed() for each in inputs)
    )
    return post(subject, body, OCTETS, length)


def spoken(subject: Subject) -> None:
    """Raise unless the server speaks the binary extension, or says that it does."""
    samples(subject)
    if not subject.binary and not subject.states("binary"):
        raise NotApplicable("the server does not state the binary extension and refused binary inputs")
