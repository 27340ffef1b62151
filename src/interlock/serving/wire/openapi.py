"""The scoring API's OpenAPI 3.1 document: V1, V2, repository, health, metrics.

Contract. Schemas come from the structs that parse and write the bodies, so that page and code
cannot drift; what a type cannot say (a tensor's data, its bounds) is added here by name. The
document is a plain JSON value. What JSON Schema cannot say (data must be as many elements as the
shape says) stands in descriptions and is refused with 400.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from interlock.decision.decide import DECISIONS
from interlock.decision.explain import Uuid
from interlock.serving.options import ServingOptions
from interlock.serving.wire import oip, tensors, v1, v2

VERSION = "1.0.0"
"""Of the API, not of the software."""

Json = dict[str, Any]


@dataclass(frozen=True)
class _Operation:
    """One row of the API.

    Attributes:
        path: with its parameters in braces.
        name: operation id.
        tag: the group it is shown in.
        summary: one line.
        answer: schema of the JSON in a 200, or a content type.
        takes: schema of the JSON body; none: the method is GET.
        optional: the body may be left out.
        binary: bodies may be JSON and raw tensors.
        public: no credential is asked for.
    """

    path: str
    name: str
    tag: str
    summary: str
    answer: str
    takes: str = ""
    optional: bool = False
    binary: bool = False
    public: bool = False


_TEXT = "text/plain"
_M, _V, _R = "/v2/models/{model}", "/v2/models/{model}/versions/{version}", "/v2/repository"
_DECIDE = "Decide transactions, or score tensors"
OPERATIONS = (
    _Operation("/v1/models", "listModelsV1", "V1", "The models", "Models"),
    _Operation("/v1/models/{model}", "modelV1", "V1", "Whether a model answers", "ModelReady"),
    _Operation("/v1/models/{model}:predict", "predict", "V1", "Decide transactions", "Predictions", "PredictRequest"),
    _Operation("/v1/models/{model}:explain", "explain", "V1", "Explain decisions", "Explanations", "ExplainRequest"),
    _Operation("/v2", "server", "V2", "The server's metadata", "ServerMetadata", public=True),
    _Operation("/v2/models", "listModels", "V2", "The models", "Models"),
    _Operation(_M, "model", "V2", "A model's metadata", "ModelMetadata"),
    _Operation(_M + "/ready", "modelReady", "V2", "Whether a model answers", "ModelReady"),
    _Operation(_M + "/infer", "infer", "V2", _DECIDE, "InferenceResponse", "InferenceRequest", binary=True),
    _Operation(_V, "version", "V2", "A version's metadata", "ModelMetadata"),
    _Operation(_V + "/ready", "versionReady", "V2", "Whether a version answers", "ModelReady"),
    _Operation(_V + "/infer", "versionInfer", "V2", _DECIDE, "InferenceResponse", "InferenceRequest", binary=True),
    _Operation(_R + "/index", "index", "repository", "Versions, states", "Index", "IndexRequest", optional=True),
    _Operation(_R + "/models/{model}/load", "load", "repository", "Load", "Done", "LoadRequest", optional=True),
    _Operation(_R + "/models/{model}/unload", "unload", "repository", "Unload", "Done", "LoadRequest", optional=True),
    _Operation("/", "alive", "health", "Whether the process lives", "Alive", public=True),
    _Operation("/v2/health/live", "live", "health", "Whether the process lives", "Live", public=True),
    _Operation("/v2/health/ready", "ready", "health", "Whether traffic should come", "Ready", public=True),
    _Operation("/metrics", "metrics", "health", "Counters of all workers, for Prometheus", _TEXT),
    _Operation("/openapi.json", "openapi", "health", "This document", "Document"),
)
"""The whole API."""

_ERRORS: Mapping[str, str] = {
    "400": "The request breaks a rule; the message says which, and never repeats a value.",
    "401": "Who calls is not known: no credential, or one that is not valid.",
    "403": "Who calls is known and may not do this.",
    "404": "There is no such page, model or version.",
    "405": "The page exists and does not take this method.",
    "408": "The request did not arrive in time.",
    "413": "The body is larger than accepted.",
    "415": "The content type or content coding is not accepted.",
    "429": "Too much is waiting, or the caller's rate is exceeded; come again after so many seconds.",
    "431": "The headers are larger or more than accepted.",
    "500": "A defect here; it was logged.",
    "503": "Not ready, or a dependency does not answer; come again after so many seconds.",
}
_AGAIN = ("429", "503")
_OF_BODIES = ("413", "415")
_HEADER = "Inference-Header-Content-Length"
_DESCRIPTION = """\
KServe protocols V1 and V2 (Open Inference Protocol). A model is called with transactions (raw fields: decided, \
recorded, and answered once however often they are sent) or, on V2, with tensors (the model's own inputs). A tensor's \
data has as many elements as its shape, flat or nested as the shape says. A body is at most {0} bytes."""


def document(services: Sequence[str], options: ServingOptions) -> Json:
    """The OpenAPI 3.1 document.

    Args:
        services: names of the models.
        options: the limits that it states.
    """
    paths: dict[str, Json] = {}
    for each in OPERATIONS:
        paths[each.path] = {"post" if each.takes else "get": _operation(each)}
        names = [name for name in ("model", "version") if f"{{{name}}}" in each.path]
        names += ["header"] if each.binary else []
        if names:
            paths[each.path]["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in names]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Interlock scoring API",
            "version": VERSION,
            "description": _DESCRIPTION.format(options.max_body_bytes),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": each} for each in dict.fromkeys(each.tag for each in OPERATIONS)],
        "security": [{}, {"key": []}, {"token": []}, {"certificate": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(options),
            "responses": {code: _error(code, text) for code, text in _ERRORS.items()},
            "parameters": _parameters(services),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "bearerFormat": "ilk_<id>_<secret>"},
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "certificate": {"type": "mutualTLS"},
            },
        },
    }


def _operation(row: _Operation) -> Json:
    codes = [code for code in _ERRORS if row.takes or code not in _OF_BODIES]
    answer = _content(row.answer, row.binary) | {"description": "Done"}
    if row.binary:
        answer["headers"] = {_HEADER: {"description": "Raw tensors follow so many bytes of JSON.", "schema": _LENGTH}}
    found: Json = {
        "operationId": row.name,
        "tags": [row.tag],
        "summary": row.summary,
        "responses": {"200": answer} | {code: {"$ref": f"#/components/responses/{code}"} for code in codes},
    }
    if row.takes:
        found["requestBody"] = _content(row.takes, row.binary) | {"required": not row.optional}
    if row.public:
        found["security"] = []
    return found


def _content(name: str, binary: bool) -> Json:
    if name == _TEXT:
        return {"content": {_TEXT: {"schema": {"type": "string"}}}}
    content: Json = {"application/json": {"schema": _ref(name)}}
    if binary:
        content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    return {"content": content}


def _error(code: str, text: str) -> Json:
    found = _content("Error", False) | {"description": text}
    if code in _AGAIN:
        found["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}}
    return found


def _parameters(services: Sequence[str]) -> Json:
    model = {"type": "string", "enum": list(services)} if services else {"type": "string"}
    return {
        "model": {"name": "model", "in": "path", "required": True, "schema": model},
        "version": {
            "name": "version",
            "in": "path",
            "required": True,
            "description": "Semantic version: one that answers now, or (for tensors) any that is admitted.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 64},
        },
        "header": {
            "name": _HEADER,
            "in": "header",
            "description": "Raw tensors follow so many bytes of JSON; 0: the body is one raw FP32 vector.",
            "schema": _LENGTH,
        },
    }


_LENGTH: Json = {"type": "integer", "minimum": 0}
_STRING: Json = {"type": "string"}
_BOOL: Json = {"type": "boolean"}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(items: Json, **bounds: int) -> Json:
    return {"type": "array", "items": items} | bounds


def _object(required: Json, optional: Json | None = None, **more: Any) -> Json:
    return {"type": "object", "properties": required | (optional or {}), "required": list(required)} | more


def _schemas(options: ServingOptions) -> Json:  # long: the table
    structs = (v1.Stated, v1.Prediction, v2.InferenceRequest, v2.InferenceResponse)
    _, derived = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    schemas: Json = {name: _portable(each) for name, each in derived.items()}
    schemas["Transaction"] = schemas.pop("Stated")
    schemas["Prediction"]["properties"]["decision"] = {"enum": list(DECISIONS)}
    shape = _list({"type": "integer", "minimum": 0, "maximum": tensors.MAX_DIM}, minItems=1, maxItems=tensors.MAX_DIMS)
    for name in ("RequestInput", "ResponseOutput"):
        schemas[name]["properties"] |= {
            "datatype": {"enum": [*oip.DATATYPES, "BYTES"]},
            "shape": shape,
            "data": _ref("TensorData"),
        }
    instances = _list(_ref("Transaction"), minItems=1, maxItems=options.max_instances)
    decisions = _list(_portable(msgspec.json.schema(Uuid)), minItems=1, maxItems=options.max_instances)
    version = {"type": "string", "minLength": 1, "maxLength": 64}
    described = _list(_object({"name": _STRING, "datatype": _STRING, "shape": _list({"type": "integer"})}))
    return schemas | {
        "TensorData": _list({"anyOf": [_BOOL, {"type": "number"}, _STRING, {"type": "null"}, _ref("TensorData")]}),
        "PredictRequest": _object({"instances": instances}, additionalProperties=False),
        "Predictions": _object({"predictions": _list(_ref("Prediction"))}),
        "ExplainRequest": {
            "oneOf": [
                _object({"decision_ids": decisions}, additionalProperties=False),
                _object({"instances": instances}, additionalProperties=False),
            ]
        },
        "Explanations": _object({"explanations": _list({"type": "object"})}),
        "Models": _object({"models": _list(_STRING)}),
        "ModelReady": _object({"name": _STRING, "ready": _BOOL}),
        "ServerMetadata": _object({"name": _STRING, "version": _STRING, "extensions": _list(_STRING)}),
        "ModelMetadata": _object(
            {
                "name": _STRING,
                "versions": _list(_STRING),
                "platform": _STRING,
                "inputs": described,
                "outputs": described,
            },
            {"properties": {"type": "object", "additionalProperties": _STRING}},
        ),
        "IndexRequest": _object({}, {"ready": _BOOL}),
        "Index": _list(_object({"name": _STRING, "version": _STRING, "state": _STRING, "reason": _STRING})),
        "LoadRequest": _object({}, {"parameters": _object({}, {"version": version})}),
        "Done": {"type": "object"},
        "Alive": _object({"status": {"const": "alive"}}),
        "Live": _object({"live": _BOOL}),
        "Ready": _object({"ready": _BOOL}),
        "Document": {"type": "object"},
        "Error": _object({"error": _STRING}),
    }


def _portable(schema: Any) -> Any:
    """The schema with ends of text written as JSON Schema's regular expressions (ECMA 262) write them.

    There `$` is the very end, which Python spells `\\Z`.
    """
    if isinstance(schema, dict):
        return {
            key: each.replace(r"\Z", "$") if key == "pattern" and isinstance(each, str) else _portable(each)
            for key, each in schema.items()
        }
    return [_portable(each) for each in schema] if isinstance(schema, list) else schema
