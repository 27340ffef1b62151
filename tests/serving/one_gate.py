"""A gate of a home, driven by hand: its file, its clock, and what it reported."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.doorkeeper import NOW_S, key

from interlock.apps.scorer.gate import Gate
from interlock.base.clock import NS_PER_S, ManualClock
from interlock.decision.admin import Denial
from interlock.serving.call import Unanswered
from interlock.serving.options import ServingOptions
from interlock.settings import Settings

PEER = {
    "subject": ((("commonName", "shop"),),),
    "subjectAltName": (("URI", "spiffe://example.org/shop"),),
    "notAfter": "Jan  1 00:00:00 2030 GMT",
}
LISTED = {"subject": "spiffe://example.org/shop", "name": "shop1", "roles": ["observe"], "services": "all"}


class Door:
    """A gate of a home, its clock, and what it reported."""

    def __init__(self, home: Path, data: bytes | None, host: str = "127.0.0.1") -> None:
        self.settings = Settings(home, scoring=ServingOptions(host=host))
        self.path = home / "trust" / "access.yaml"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if data is not None:
            self.path.write_bytes(data)
        self.clock = ManualClock(wall_ns=NOW_S * NS_PER_S)
        self.told: list[Denial] = []
        self.gate = Gate.from_home(self.settings, self.clock, self.told.extend)

    def change(self, data: bytes) -> None:
        self.path.write_bytes(data)
        stamp = self.path.stat().st_mtime_ns + 1
        os.utime(self.path, ns=(stamp, stamp))
        self.turn()

    def turn(self) -> None:
        async def go() -> None:
            await self.gate.refresh()
            await self.gate.keys_renewed()

        asyncio.run(go())

    def who(self, authorization: str = "", peer: Mapping[str, Any] | None = None, api_key: str = "") -> str:
        headers = {b"authorization": authorization.encode()} if authorization else {}
        headers |= {b"x-api-key": api_key.encode()} if api_key else {}
        return self.gate.identify(headers, peer).name

    def refused(self, authorization: str = "", peer: Mapping[str, Any] | None = None, api_key: str = "") -> Unanswered:
        with pytest.raises(Unanswered) as caught:
            self.who(authorization, peer, api_key)
        return caught.value

    def stopped(self, action: str, service: str = "", authorization: str = "") -> Unanswered:
        found = self.gate.identify({b"authorization": authorization.encode()} if authorization else {})
        with pytest.raises(Unanswered) as caught:
            self.gate.check(found, action, service)
        return caught.value


def bearer(number: int = 1) -> str:
    """The header of a key."""
    return f"Bearer {key(number).text}"
