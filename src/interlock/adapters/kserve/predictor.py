"""Somebody else's predictor as a model runtime: the Open Inference Protocol (V2), binary tensors over HTTP.

Contract. One request per call on a connection that the calling thread keeps; each thread has its
own. No request is sent twice: one whose connection breaks under way has failed, and the caller
decides what answers instead. A kept connection that the predictor closed meanwhile is noticed
before anything is sent. No wait is longer than the timeout. What answers is held to the shape of
the request; whether it is the model that was approved is seen by its golden vectors, when it is
loaded. Whoever calls must not be an event loop. Nothing of a response appears in an error.
"""

from __future__ import annotations

import http.client
import json
import select
import socket
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import numpy.typing as npt

from interlock.base.errors import IntegrityError, UnreachableError, UsageError
from interlock.decision.decide import Vectors

HEADER_LENGTH = "Inference-Header-Content-Length"
MAX_RESPONSE = 4 * 1_048_576
_FLOATS: Mapping[str, npt.DTypeLike] = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
_SCORE = "score"


class PredictorRuntime:
    """A model at a predictor.

    Args:
        url: of the predictor, `http://host:port` or `https://...`, with a path before `/v2` if it has one.
        model: its name there.
        version: its version there; empty: whichever serves.
        output: which output is the score; where there is none of that name `score`, or else the only numeric one.
        timeout_s: of each wait.

    Raises:
        UsageError: the URL is none.
    """

    def __init__(self, url: str, model: str, version: str, output: str, timeout_s: float) -> None:
        self._address = _address(url)
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        named = f"/versions/{quote(version, safe='')}" if version else ""
        self._path = f"{parts.path.rstrip('/')}/v2/models/{quote(model, safe='')}{named}"
        self._output = output
        self._timeout_s = timeout_s
        self._mine = threading.local()
        self._input = ""

    def run(self, vectors: Vectors) -> Vectors:
        """Scores, float32 [n], of vectors, float32 [n, features].

        Raises:
            UnreachableError: the predictor does not answer, or answers with an error.
            IntegrityError: it answers something that is no V2 response with a score per row.
        """
        raw = vectors.astype("<f4").tobytes()
        tensor = {
            "name": self._input or self._first_input(),
            "datatype": "FP32",
            "shape": list(vectors.shape),
            "parameters": {"binary_data_size": len(raw)},
        }
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
        body, length = self._ask("POST", f"{self._path}/infer", head + raw, headers)
        return _scores(body, length, self._output, len(vectors))

    def _first_input(self) -> str:
        body, _ = self._ask("GET", self._path, b"", {})
        try:
            inputs = json.loads(body)["inputs"]
            (name,) = [str(each["name"]) for each in inputs]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise IntegrityError(
                "the predictor's model does not take one tensor", "name a model of one float32 [n, features]"
            ) from error
        self._input = name
        return name

    def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[bytes, int | None]:
        """A response's body, and the length of its JSON where raw tensors follow it."""
        connection = self._connection()
        try:
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            data = response.read(MAX_RESPONSE + 1)
            length = response.headers.get(HEADER_LENGTH)
            status = response.status
            if response.will_close or len(data) > MAX_RESPONSE:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise UnreachableError(
                f"the predictor does not answer ({type(error).__name__})", "see that it runs, and scoring.predictor_url"
            ) from error
        if status != 200:
            raise UnreachableError(f"the predictor answers {status}", "read its log")
        if len(data) > MAX_RESPONSE:
            raise IntegrityError("the predictor's response is too long", "ask for fewer outputs")
        return data, int(length) if length is not None and length.isascii() and length.isdigit() else None

    def _connection(self) -> http.client.HTTPConnection:
        """This thread's connection, a new one if the predictor has closed it."""
        kept: http.client.HTTPConnection | None = getattr(self._mine, "connection", None)
        if kept is None:
            kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            kept = self._mine.connection = kind(*self._address, timeout=self._timeout_s)
        elif kept.sock is not None and _readable(kept.sock):
            kept.close()  # while nothing is asked: its end, or what nobody waits for
        return kept


def _readable(connection: socket.socket) -> bool:
    poll = select.poll()  # a worker has more descriptors than select takes
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _address(url: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise UsageError("scoring.predictor_url is no HTTP URL", "write http://host:port")
    return host, port


def _scores(body: bytes, length: int | None, output: str, rows: int) -> Vectors:
    """The scores in a response's body."""
    try:
        listed = json.loads(body if length is None else body[:length])["outputs"]
        data: dict[str, npt.NDArray[Any]] = {}
        at = len(body) if length is None else length
        for each in listed:
            size = (each.get("parameters") or {}).get("binary_data_size")
            end = at if size is None else at + int(size)
            if (dtype := _FLOATS.get(each["datatype"])) is not None:
                found = np.array(each["data"], dtype) if size is None else np.frombuffer(body[at:end], dtype)
                data[str(each["name"])] = found.reshape([int(size) for size in each["shape"]])
            at = end
        names = [name for name in (output, _SCORE) if name in data] or list(data)
        scores = data[names[0]]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise IntegrityError("the predictor's response is not of protocol V2", "run a server that conforms") from error
    if scores.ndim == 2:  # [n, 1], or [n, 2] with the positive class last
        scores = scores[:, -1]
    if scores.shape != (rows,) or (names[0] not in (output, _SCORE) and len(data) > 1):
        raise IntegrityError("the predictor's response has no score per row", "name its output as the bundle does")
    return np.ascontiguousarray(scores, np.float32)
