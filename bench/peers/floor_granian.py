"""An empty RSGI application on granian, one worker, its own defaults: what HTTP alone costs there."""

from __future__ import annotations

import sys

from granian import Granian

ANSWER = b'{"predictions":[]}'


class Application:
    def __rsgi_init__(self, loop):
        pass

    async def __rsgi__(self, scope, protocol):
        protocol.response_bytes(200, [("content-type", "application/json")], ANSWER)


application = Application()


if __name__ == "__main__":
    Granian(
        "bench.peers.floor_granian:application", address="127.0.0.1", port=int(sys.argv[1]), interface="rsgi", workers=1
    ).serve()
