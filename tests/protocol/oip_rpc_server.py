"""The gRPC side of `oip_server`: one model that adds two numbers a row, every virtue switchable by name."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream

from interlock.serving.wire import grpc_schema

SCHEMA = grpc_schema.load("grpc_inference.proto")
SERVICE = "/inference.GRPCInferenceService/"


class Bytes(CodecBase):
    """Messages stay bytes."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


def bad(code: Status = Status.INVALID_ARGUMENT) -> GRPCError:
    """A refusal."""
    return GRPCError(code, "refused")


class Adder:
    """The service; `faults` are names that the code below asks for."""

    def __init__(self, *faults: str) -> None:
        self._faults = frozenset(faults)

    def has(self, fault: str) -> bool:
        """Whether that virtue is switched off."""
        return fault in self._faults

    def __mapping__(self) -> dict[str, Handler]:
        methods: dict[str, Callable[[Any], dict[str, Any]]] = {
            "ServerLive": lambda asked: {"live": not self.has("not live")},
            "ServerReady": lambda asked: {"ready": not self.has("not live")},
            "ServerMetadata": lambda asked: {"name": "" if self.has("no name") else "test", "version": "1"},
            "ModelReady": lambda asked: self._named(asked.name, asked.version) and {"ready": not self.has("not live")},
            "ModelMetadata": self._metadata,
            "ModelInfer": self._infer,
            "RepositoryIndex": lambda asked: {"models": [] if self.has("empty index") else [self._entry()]},
        }
        return {SERVICE + name: self._handler(name, answer) for name, answer in methods.items()}

    def _handler(self, name: str, answer: Callable[[Any], dict[str, Any]]) -> Handler:
        rpc = SCHEMA.rpcs[name]

        async def serve(stream: Stream[bytes, bytes]) -> None:
            data = await stream.recv_message()
            asked = rpc.request()
            try:
                asked.ParseFromString(data)
            except Exception:
                if self.has("takes any bytes"):
                    await stream.send_message(b"")
                    return
                raise bad(Status.INTERNAL) from None
            try:
                made = rpc.response(**answer(asked))
            except GRPCError as error:
                raise (GRPCError(Status.UNKNOWN, "refused") if self.has("unknown for every fault") else error) from None
            await stream.send_message(made.SerializeToString())

        return Handler(serve, Cardinality.UNARY_UNARY, bytes, bytes)

    def _entry(self) -> Any:
        return SCHEMA.messages["RepositoryIndexResponse.ModelIndex"](name="m", version="1", state="READY")

    def _named(self, name: str, version: str) -> bool:
        if name != "m" or (version not in ("", "1") and not self.has("ignores versions")):
            raise bad(Status.NOT_FOUND)
        return True

    def _metadata(self, asked: Any) -> dict[str, Any]:
        self._named(asked.name, asked.version)
        tensor = SCHEMA.messages["ModelMetadataResponse.TensorMetadata"]
        a = tensor(name="x" if self.has("other inputs") else "a", datatype="FP32", shape=[-1, 2])
        return {"name": "m", "versions": ["1"], "platform": "test_sum", "inputs": [a]}

    def _infer(self, asked: Any) -> dict[str, Any]:
        self._named(asked.model_name, asked.model_version)
        if len(asked.inputs) != 1:
            raise bad()
        (tensor,) = asked.inputs
        if tensor.name != "a":
            raise bad()
        values = self._values(asked, tensor)
        rows = len(values) // 2
        if list(tensor.shape) != [rows, 2] and not self.has("trusts shapes"):
            raise bad(Status.INTERNAL if self.has("internal for shapes") else Status.INVALID_ARGUMENT)
        if any(each.name != "sum" for each in asked.outputs) and not self.has("ignores outputs"):
            raise bad()
        return self._response(asked, [sum(values[at : at + 2]) for at in range(0, len(values), 2)])

    def _values(self, asked: Any, tensor: Any) -> list[float]:
        raw = list(asked.raw_input_contents)
        if tensor.datatype != "FP32" and not self.has("takes any datatype"):
            raise bad()
        typed = list(tensor.contents.fp32_contents)
        if not raw or (typed and self.has("takes both")):
            return typed
        if not self.has("takes both") and (len(raw) != 1 or tensor.HasField("contents") or len(raw[0]) % 4):
            raise bad()
        return list(struct.unpack(f"<{len(raw[0]) // 4}f", raw[0][: len(raw[0]) // 4 * 4]))

    def _response(self, asked: Any, sums: list[float]) -> dict[str, Any]:
        output = SCHEMA.messages["ModelInferResponse.InferOutputTensor"](name="sum", datatype="FP32", shape=[len(sums)])
        if self.has("other shape"):
            output.shape[0] += 1
        raw = [struct.pack(f"<{len(sums)}f", *sums)] if asked.raw_input_contents else []
        if not raw or self.has("typed for raw"):
            raw = []
            output.contents.fp32_contents.extend(sums)
        if raw and self.has("adds when raw"):
            raw = [struct.pack(f"<{len(sums)}f", *(each + 1 for each in sums))]
        more = SCHEMA.messages["ModelInferResponse.InferOutputTensor"](name="more", datatype="FP32", shape=[0])
        return {
            "model_name": "n" if self.has("wrong model name") else "m",
            "model_version": "1",
            "id": "" if self.has("no id") else asked.id,
            "outputs": [output, more] if self.has("ignores outputs") and not raw else [output],
            "raw_output_contents": raw,
        }


@contextlib.asynccontextmanager
async def calling(*faults: str) -> AsyncIterator[str]:
    """The server's HOST:PORT while it serves with these faults."""
    server = Server([Adder(*faults)], codec=Bytes())
    await server.start("127.0.0.1", 0)
    assert server._server is not None
    host, port = server._server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.close()
        await server.wait_closed()
