"""A small, correct Open Inference Protocol server whose every virtue can be switched off by name.

One model, `m`, version `1`: inputs `a` FP32 [-1,2] and `b` BYTES [-1,1]; outputs `sum` FP32 [-1], the
row's sum, and `text` BYTES [-1]. It proves that the conformance suite can fail, fault by fault.
"""

# long: one server with all its faults
from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

MOST = 1_000_000
LIST = {"name": "m", "version": "1", "state": "READY", "reason": ""}
METADATA = {
    "name": "m",
    "versions": ["1"],
    "platform": "test_sum",
    "inputs": [
        {"name": "a", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "b", "datatype": "BYTES", "shape": [-1, 1]},
    ],
    "outputs": [
        {"name": "sum", "datatype": "FP32", "shape": [-1]},
        {"name": "text", "datatype": "BYTES", "shape": [-1]},
    ],
}
KINDS = {each["name"]: each["datatype"] for each in METADATA["inputs"]}  # type: ignore[attr-defined,index]
WIDTHS = {"a": 2, "b": 1}
LENGTH = "inference-header-content-length"


class No(Exception):
    """A refusal."""

    def __init__(self, status: int, close: bool = False, **headers: str) -> None:
        super().__init__(status)
        self.status, self.close, self.headers = status, close, headers


@dataclass
class Page:
    """One response."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    close: bool = False


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Server:
    """The server; `faults` are names that the code below asks for."""

    def __init__(self, faults: frozenset[str] = frozenset()) -> None:
        self._faults = faults
        self._loaded = True
        self._count = 0

    def has(self, fault: str) -> bool:
        """Whether that virtue is switched off."""
        return fault in self._faults

    # --- connections --------------------------------------------------------------------------------

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            close = False
            while not close:
                first, close = await self._turn(reader, writer)
                second = b""
                if self.has("replies out of order") and not close:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.1):
                            second, close = await self._turn(reader, writer)
                writer.write(second + first)
                await writer.drain()
                close = close or self.has("ends each connection")
        writer.close()

    async def _turn(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[bytes, bool]:
        """The next response, and whether the connection ends with it."""
        asked = None
        try:
            asked = await self._request(reader, writer)
            page = self._page(asked)
        except No as why:
            page = self._error(why)
        close = page.close or (asked is not None and asked.headers.get("connection") == "close")
        close = close and not self.has("ignores close")
        method = "GET" if asked is None or self.has("body with HEAD") else asked.method
        return _bytes(page, method, close), close

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Asked:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = [*head[0].split(" "), "", ""][:3]
        pairs = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:] if line)]
        headers = dict(pairs)
        if "host" not in headers and not self.has("needs no host"):
            raise No(400, True)
        if sum(len(name) + len(value) for name, value in pairs) > 60_000:
            raise No(500 if self.has("5xx for large headers") else 431, True)
        lengths = [value for name, value in pairs if name == "content-length"]
        if not self.has("takes any framing") and (
            len(lengths) > 1
            or (lengths and "transfer-encoding" in headers)
            or not all(value.isdigit() for value in lengths)
        ):
            raise No(400, True)
        return Asked(method, path, headers, await self._body(reader, writer, headers))

    async def _body(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]) -> bytes:
        if headers.get("expect") == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding") == "chunked" and not self.has("takes any framing"):
            parts = []
            while length := int(await reader.readuntil(b"\r\n"), 16):
                parts.append(await reader.readexactly(length))
                await reader.readuntil(b"\r\n")
            await reader.readuntil(b"\r\n")
            return b"".join(parts)
        length = abs(int(headers.get("content-length", "0")))
        if length > MOST and not self.has("5xx for large bodies"):
            raise No(413, True)
        if length > MOST:
            raise No(500, True)
        return await reader.readexactly(length)

    def _error(self, why: No) -> Page:
        key = "detail" if self.has("error in detail") else "error"
        text = "Traceback (most recent call last): x" if self.has("shows its stack") else "refused"
        status = 500 if self.has("500 for every fault") and why.status != 413 else why.status
        kind = "text/plain" if self.has("errors in text") else "application/json"
        return Page(status, json.dumps({key: text}).encode(), {"Content-Type": kind, **why.headers}, why.close)

    # --- pages --------------------------------------------------------------------------------------

    def _page(self, asked: Asked) -> Page:
        if "content-encoding" in asked.headers and not self.has("ignores codings"):
            raise No(400 if self.has("400 for gzip") else 415)
        for prefix, takes, answer in self._routes():
            if asked.path == prefix or (prefix.endswith("/") and asked.path.startswith(prefix)):
                if asked.method not in takes and not self.has("takes any method"):
                    raise No(405, **({} if self.has("405 without Allow") else {"Allow": ", ".join(takes)}))
                return answer(asked)
        raise No(404)

    def _routes(self) -> list[tuple[str, tuple[str, ...], Callable[[Asked], Page]]]:
        get, post = ("GET", "HEAD"), ("POST",)
        m = "/v2/models/m"
        extensions = ["model_repository", "binary_tensor_data"]
        server = {"name": "test", "version": 1 if self.has("version is a number") else "1", "extensions": extensions}
        found: list[tuple[str, tuple[str, ...], Callable[[Asked], Page]]] = [
            ("/v2", get, lambda asked: _json(server)),
            ("/v2/health/live", get, lambda asked: _json({"live": not self.has("not live")})),
            ("/v2/health/ready", get, lambda asked: _json({"ready": not self.has("not live")})),
            ("/v2/repository/index", post, self._index),
            ("/v2/repository/models/", post, self._repository),
            ("/v1/models", get, lambda asked: _json({"models": [] if self.has("lists nothing") else ["m"]})),
            ("/v1/models/m", get, lambda asked: _json({"name": "m", "ready": True})),
            ("/v1/models/m:predict", post, self._predict),
            ("/v1/models/m:explain", post, self._explain),
        ]
        for path in (m, f"{m}/versions/1"):
            found += [
                (path, get, lambda asked: _json(self._metadata())),
                (f"{path}/ready", get, self._ready),
                (f"{path}/infer", post, self._infer),
            ]
        if self.has("ignores versions"):
            found += [(f"{m}/versions/987654321{rest}", get, self._ready) for rest in ("", "/ready")]
            found.append((f"{m}/versions/987654321/infer", post, self._infer))
        if self.has("unknown model is ready"):
            found.append(("/v2/models/", get, self._ready))
        return found

    def _metadata(self) -> dict[str, Any]:
        changed: dict[str, Any] = {}
        if self.has("wrong metadata"):
            outputs: Any = [{"name": "sum", "datatype": "INT64", "shape": [-1]}]
            changed = {"outputs": outputs, "versions": [1], "platform": None}
        return METADATA | changed

    def _ready(self, asked: Asked) -> Page:
        if not self._loaded and not self.has("unload does nothing"):
            raise No(503)
        return _json({"name": "m", "ready": True})

    def _index(self, asked: Asked) -> Page:
        _object(asked.body)
        return _json([LIST | {"state": "UNAVAILABLE" if self.has("index lists the unready") else "READY"}])

    def _repository(self, asked: Asked) -> Page:
        _, _, _, _, name, verb = asked.path.split("/")
        if name != "m" or verb not in ("load", "unload"):
            raise No(503 if self.has("503 for unknown loads") else 404)
        self._loaded = verb == "load"
        return _json({"name": name})

    def _explain(self, asked: Asked) -> Page:
        self._predict(asked)
        raise No(500 if self.has("explain breaks") else 501)

    def _predict(self, asked: Asked) -> Page:
        if asked.headers.get("content-type", "application/json").split(";")[0] != "application/json":
            raise No(500 if self.has("500 for text") else 415)
        rows = _object(asked.body).get("instances")
        if not isinstance(rows, list):
            raise No(400)
        if self.has("one prediction whatever"):
            rows = rows[:1]
        return _json({"predictions": [0.5 for _ in rows]})

    # --- inference ----------------------------------------------------------------------------------

    def _infer(self, asked: Asked) -> Page:
        kind = asked.headers.get("content-type", "" if self.has("needs a content type") else "application/json")
        if kind.split(";")[0] not in ("application/json", "application/octet-stream"):
            raise No(415 if kind else 400)
        if kind != "application/json" and self.has("wants the plain type alone") and LENGTH not in asked.headers:
            raise No(415)
        found, data = self._parts(asked)
        if not all(isinstance(found.get(name, {}), dict) for name in ("parameters",)):
            raise No(400)
        if not isinstance(found.get("id", ""), str):
            raise No(400)
        tensors = self._tensors(found.get("inputs"), data)
        self._count += self.has("never the same")
        return self._response(found, self._outputs(tensors), asked)

    def _parts(self, asked: Asked) -> tuple[dict[str, Any], bytes]:
        length = asked.headers.get(LENGTH)
        if length is None:
            return _object(asked.body), b""
        if self.has("guesses where the JSON ends"):
            found, end = json.JSONDecoder().raw_decode(asked.body.decode("latin-1"))
            return found, asked.body[end:]
        if not length.isdigit() or not 0 < int(length) <= len(asked.body):
            raise No(400)
        return _object(asked.body[: int(length)]), asked.body[int(length) :]

    def _tensors(self, inputs: Any, data: bytes) -> dict[str, list[Any]]:
        if not isinstance(inputs, list):
            raise No(400)
        found: dict[str, list[Any]] = {}
        for each in inputs:
            if not isinstance(each, dict) or (not isinstance(each.get("name"), str)):
                raise No(400)
            if self.has("takes any name") and each["name"] not in KINDS:
                each["name"] = "a"
            found[each["name"]], used = self._tensor(each, data)
            data = data[used:]
        if sorted(found) != sorted(KINDS) or len(found) != len(inputs):
            raise No(400)
        if data and not self.has("leaves bytes over"):
            raise No(400)
        return found

    def _tensor(self, each: dict[str, Any], data: bytes) -> tuple[list[Any], int]:
        shape, kind = each.get("shape"), each.get("datatype")
        if not isinstance(shape, list) or not all(type(n) is int for n in shape) or kind not in ("FP32", "BYTES"):
            raise No(400)
        if min(shape, default=0) < 0:
            if not self.has("takes negative shapes"):
                raise No(400)
            shape = [abs(each) for each in shape]
        size = (each.get("parameters") or {}).get("binary_data_size")
        if size is None:
            values, used = _flat(each.get("data")), 0
            if not self.has("takes any element") and not all(isinstance(v, str if kind == "BYTES" else int | float)
                                                             for v in values):  # fmt: skip
                raise No(400)
        else:
            if self.has("trusts sizes"):
                size = min(int(size), len(data)) if float(size) >= 0 else len(data)
            if type(size) is not int or not 0 <= size <= len(data) or "data" in each:
                raise No(400)
            values, used = _unpacked(kind, data[:size], self.has("trusts sizes")), size
        width = WIDTHS.get(each["name"], 1)
        if (len(values) % width or shape != [len(values) // width, width]) and not self.has("trusts shapes"):
            raise No(500 if self.has("500 for shapes") else 400)
        if kind != KINDS.get(each["name"], kind) and not self.has("trusts shapes"):
            raise No(400)
        return values, used

    def _outputs(self, tensors: dict[str, list[Any]]) -> list[dict[str, Any]]:
        a = [value if isinstance(value, int | float) else 0 for value in tensors["a"]]
        sums = [sum(a[at : at + 2]) + self._count for at in range(0, len(a), 2)]
        if self.has("drops a row"):
            sums = sums[:1]
        total = [len(sums) + 1] if self.has("shapes do not fit") else [len(sums)]
        texts = [str(each) for each in tensors["b"]]
        return [
            {"name": "sum", "datatype": "FP32", "shape": total, "data": sums},
            {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts},
        ]

    def _response(self, found: dict[str, Any], outputs: list[dict[str, Any]], asked: Asked) -> Page:
        wanted = found.get("outputs") or []
        if not isinstance(wanted, list):
            raise No(400)
        names = {each.get("name"): each.get("parameters") or {} for each in wanted}
        if set(names) - {each["name"] for each in outputs} and not self.has("ignores requested outputs"):
            raise No(400)
        if names and not self.has("ignores requested outputs"):
            outputs = [each for each in outputs if each["name"] in names]
        everything = bool((found.get("parameters") or {}).get("binary_data_output", False))
        data = b""
        for each in outputs:
            own = names.get(each["name"], {}).get("binary_data", everything)
            if (everything if self.has("ignores binary_data") else own) and not self.has("never binary out"):
                part = _packed(each["datatype"], each.pop("data"), self.has("wrong framing"))
                each["parameters"] = {"binary_data_size": len(part) + self.has("wrong sizes")}
                data += part
        whole: dict[str, Any] = {"model_name": "m", "model_version": "1", "outputs": outputs}
        if "id" in found and not self.has("no id"):
            whole["id"] = found["id"]
        if self.has("wrong model name"):
            whole |= {"model_name": "n", "model_version": "7"}
        text = json.dumps(whole).encode()
        if not data:
            return _json(whole, "text/html" if self.has("answers in html") else "application/json")
        kind = "application/json" if self.has("binary as json") else "application/octet-stream"
        return Page(200, text + data, {"Content-Type": kind, LENGTH: str(len(text))})


def _json(value: Any, kind: str = "application/json") -> Page:
    return Page(200, json.dumps(value).encode(), {"Content-Type": kind})


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise No(400) from None
    if not isinstance(found, dict):
        raise No(400)
    return found


def _refuse(name: str) -> float:
    raise ValueError(name)


def _flat(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise No(400)
    if any(isinstance(each, list) for each in data):
        if not all(isinstance(each, list) and len(each) == len(data[0]) for each in data):
            raise No(400)
        return [value for row in data for value in _flat(row)]
    return data


def _unpacked(kind: str, data: bytes, trusting: bool) -> list[Any]:
    if kind != "BYTES":
        if len(data) % 4 and not trusting:
            raise No(400)
        return list(struct.unpack(f"<{len(data) // 4}f", data[: len(data) // 4 * 4]))
    found, at = [], 0
    while at + 4 <= len(data):
        (length,) = struct.unpack_from("<I", data, at)
        if at + 4 + length > len(data) and not trusting:
            raise No(400)
        found.append(data[at + 4 : at + 4 + length].decode("utf-8", "replace"))
        at += 4 + length
    if at != len(data) and not trusting:
        raise No(400)
    return found


def _packed(kind: str, data: list[Any], wrong: bool) -> bytes:
    if kind != "BYTES":
        return struct.pack(f"<{len(data)}f", *data)
    order = ">I" if wrong else "<I"
    return b"".join(struct.pack(order, len(each)) + each.encode() for each in data)


def _bytes(page: Page, method: str, close: bool) -> bytes:
    closing = ["Connection: close"] if close else []
    lines = [f"HTTP/1.1 {page.status} X", f"Content-Length: {len(page.body)}", *closing]
    lines += [f"{name}: {value}" for name, value in page.headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if method == "HEAD" else page.body)


@contextlib.asynccontextmanager
async def serving(*faults: str) -> AsyncIterator[str]:
    """The server's URL while it serves with these faults."""
    made = await asyncio.start_server(Server(frozenset(faults)).connected, "127.0.0.1", 0, limit=300_000)
    host, port = made.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        made.close()
