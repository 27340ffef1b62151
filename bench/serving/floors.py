"""Servers with an empty handler: what HTTP alone costs. `python -m bench.serving.floors own|uvicorn PORT`.

The floor of granian runs in the peers' environment: `bench/peers/floor_granian.py`.
"""

from __future__ import annotations

import asyncio
import socket
import sys

import uvloop

from interlock.apps.scorer.http import Exchange, Server
from interlock.base.clock import SystemClock
from interlock.serving.options import ServingOptions

ANSWER = b'{"predictions":[]}'


def _empty(exchange: Exchange) -> None:
    exchange.respond(200, ANSWER)


async def _own(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=2048)
    listener.setblocking(False)
    server = Server(_empty, lambda exchange, status: None, ServingOptions(), SystemClock())
    await server.serve(listener)
    while True:  # as the worker does
        await asyncio.sleep(0.5)
        server.sweep()


async def application(scope: dict[str, object], receive: object, send: object) -> None:
    """The empty ASGI application; the body is not read."""
    if scope["type"] != "http":
        return
    length = str(len(ANSWER)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": ANSWER})  # type: ignore[operator]


def main() -> None:
    """Serve until killed."""
    name, port = sys.argv[1], int(sys.argv[2])
    if name == "own":
        uvloop.run(_own(port))
        return
    import uvicorn

    uvicorn.run(
        application, host="127.0.0.1", port=port, loop="uvloop", http="httptools", access_log=False, lifespan="off"
    )


if __name__ == "__main__":
    main()
