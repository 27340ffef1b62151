"""Credentials at the HTTP door itself: what a caller without one hears, and that two are none."""

from __future__ import annotations

import json
from typing import Any

import pytest
import uvloop
from tests.doorkeeper import access_file, key, key_entry
from tests.failures.load import transaction
from tests.protocol.raw_client import PREDICT, House, Reply, door
from tests.serving.one_worker import OneWorker, real_model

from interlock.apps.scorer.desk import Desk
from interlock.apps.scorer.doors import Doors
from interlock.apps.scorer.gate import Gate
from interlock.apps.scorer.http2 import joined
from interlock.base.clock import EdgeClock, SystemClock
from interlock.base.ids import SeededIds
from interlock.features.definition import FRAUD
from interlock.privacy.token import Tokeniser
from interlock.trust.access import Access

pytestmark = pytest.mark.process
GRANTS = access_file(
    keys=[key_entry(1), key_entry(2, name="scraper", roles=["observe"], services="all")],
    rate={"principals": {"shop1": {"perSecond": 1, "burst": 2}}},
)
SHOP = b"authorization: Bearer " + key(1).text.encode() + b"\r\n"
SCRAPER = b"x-api-key: " + key(2).text.encode() + b"\r\n"


def predict(fields: bytes, name: str = "t1") -> bytes:
    body = json.dumps({"instances": [transaction(name, 1)]}).encode()
    return b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n%b\r\n%b" % (
        PREDICT.encode(),
        len(body),
        fields,
        body,
    )


def get(path: bytes, fields: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\nhost: x\r\n%b\r\n" % (path, fields)


def replies(*requests: bytes) -> list[Reply]:
    """All on one connection, in order."""

    async def work() -> list[Reply]:
        worker, clock = await OneWorker().warm(), SystemClock()
        worker.route(real_model("1.0.0"))
        around: Any = (Tokeniser(b"k" * 32), FRAUD)
        house = House({"fraud": worker.pipeline})
        desk = Desk(house, around, clock, EdgeClock(clock), SeededIds(7), worker.options)
        doors = Doors(house, desk, Gate(Access.parse(GRANTS), clock), worker.options)
        async with door(doors.handle, worker.options) as (_, connect):
            peer = await connect()
            found = []
            for request in requests:
                peer.send(request)
                found.append(await peer.reply())
            return found

    return uvloop.run(work())


def test_who_brings_nothing_is_asked_for_a_credential() -> None:
    (found,) = replies(predict(b""))
    assert (found.status, found.headers["www-authenticate"]) == (401, 'Bearer realm="interlock"')
    assert "Authorization" in found.error


def test_each_request_of_a_connection_is_judged_by_itself() -> None:
    found = replies(predict(SHOP), predict(b""), predict(SCRAPER), get(b"/metrics", SCRAPER), get(b"/metrics", SHOP))
    assert [each.status for each in found] == [200, 401, 403, 200, 403]
    assert all(("www-authenticate" in each.headers) == (each.status == 401) for each in found)


def test_probes_need_no_credential() -> None:
    assert [each.status for each in replies(get(b"/v2/health/live"), get(b"/v2/health/ready"), get(b"/"))] == [200] * 3


@pytest.mark.parametrize(
    "fields", [SHOP + SHOP, SHOP + b"Authorization: Bearer x\r\n", SCRAPER + SCRAPER, SHOP + SCRAPER]
)
def test_two_credentials_are_none_whichever_a_proxy_read(fields: bytes) -> None:
    (found,) = replies(predict(fields))
    assert found.status == 401


def test_too_often_is_said_with_the_time_to_wait() -> None:
    found = replies(*(predict(SHOP, f"t{number}") for number in range(3)))
    assert [each.status for each in found] == [200, 200, 429]
    assert found[-1].headers["retry-after"] == "1"


def test_a_calls_repeated_metadata_is_joined() -> None:
    once = [(":path", "/x"), ("authorization", "a")]
    assert joined(once) == dict(once)
    assert joined([*once, ("authorization", "b"), ("x", "1")]) == {":path": "/x", "authorization": "a, b", "x": "1"}
