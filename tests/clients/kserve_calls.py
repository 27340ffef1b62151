"""Calls of KServe's own clients, retries off; runs in tests/clients/.venv and prints what came back as JSON.

python kserve_calls.py URL HOST:PORT TOKEN < inputs.json
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

ROWS = np.arange(3 * 61, dtype=np.float32).reshape(3, 61)


def vectors(binary: bool, rows: np.ndarray = ROWS, **more: Any) -> InferRequest:
    tensor = InferInput("vectors", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return InferRequest("fraud", [tensor], **more)


def columns(given: list[dict[str, Any]]) -> InferRequest:
    tensors = []
    for each in given:
        tensor = InferInput(each["name"], each["shape"], each["datatype"])
        kind = np.int64 if each["datatype"] == "INT64" else np.object_
        tensor.set_data_from_numpy(np.array(each["data"], dtype=kind), binary_data=False)
        tensors.append(tensor)
    return InferRequest("fraud", tensors)


def read(response: Any) -> dict[str, Any]:
    found = {"id": response.id, "model": response.model_name}
    for each in response.outputs:
        values = each.as_numpy().tolist()
        found[each.name] = [value.decode() if isinstance(value, bytes) else value for value in values]
    return found


async def over_rest(url: str, headers: dict[str, str], given: dict[str, Any]) -> dict[str, Any]:
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:
        found: dict[str, Any] = {
            "live": await client.is_server_live(url),
            "ready": await client.is_server_ready(url),
            "model_ready": await client.is_model_ready(url, "fraud", headers),
        }
        for name, binary in (("json", False), ("binary", True)):
            request = vectors(binary, request_id=f"rest-{name}")
            found[name] = read(await client.infer(url, request, "fraud", dict(headers)))
        asked = vectors(True, parameters={"binary_data_output": True}, request_id="rest-raw")
        found["raw"] = read(await client.infer(url, asked, "fraud", dict(headers)))
        found["columns"] = read(await client.infer(url, columns(given["columns"]), "fraud", dict(headers)))
        try:
            await client.infer(url, vectors(False, ROWS[:, :60]), "fraud", dict(headers))
        except httpx.HTTPStatusError as error:
            found["refused"] = [error.response.status_code, str(error)]
    async with InferenceRESTClient(RESTConfig(protocol="v1", retries=0)) as client:
        found["v1_ready"] = await client.is_model_ready(url, "fraud", headers)
        found["v1"] = await client.infer(url, {"instances": given["instances"]}, "fraud", dict(headers))
    return found


async def over_grpc(address: str, token: str, given: dict[str, Any]) -> dict[str, Any]:
    who = (("authorization", f"Bearer {token}"),)
    async with InferenceGRPCClient(address, retries=0, channel_args=[("grpc.enable_retries", 0)]) as client:
        found: dict[str, Any] = {
            "live": await client.is_server_live(headers=who),
            "ready": await client.is_server_ready(headers=who),
            "model_ready": await client.is_model_ready("fraud", headers=who),
            "typed": read(await client.infer(vectors(False, request_id="grpc-typed"), headers=who)),
            "raw": read(await client.infer(vectors(True, request_id="grpc-raw"), headers=who)),
            "columns": read(await client.infer(columns(given["columns"]), headers=who)),
        }
        try:
            await client.infer(vectors(False, ROWS[:, :60]), headers=who)
        except Exception as error:  # whatever the client makes of a refusal is what is looked at
            found["refused"] = [type(error).__name__, str(error)]
    return found


async def main(url: str, address: str, token: str) -> dict[str, Any]:
    given = json.load(sys.stdin)
    rest = await over_rest(url, {"authorization": f"Bearer {token}"}, given)
    return {"rest": rest, "grpc": await over_grpc(address, token, given)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:4]))))
