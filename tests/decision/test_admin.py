import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.base.errors import IntegrityError, InterlockError, RefusedError, UnreachableError, UsageError
from interlock.decision import admin
from interlock.decision.counts import WorkerCounts
from interlock.decision.seal import Seal
from interlock.decision.table import BUCKETS, Arm, RouteTable

DIGEST = "sha256:" + "a" * 64
TABLE = RouteTable(
    service="fraud",
    epoch=1,
    generation=2,
    arms=(Arm("champion", DIGEST, DIGEST, "1.0.0", ((0, BUCKETS),)),),
    salt="00" * 32,
    lease_s=60.0,
)
REQUESTS: list[admin.Request] = [
    admin.Load(DIGEST, DIGEST, "fraud"),
    admin.Install(TABLE),
    admin.Unload(DIGEST),
    admin.Retreat("fraud", "latch-1", "slow", "mara", 12),
    admin.Observe("fraud", 3),
    admin.SealNow(),
    admin.Renew("fraud", 1, 2),
    admin.Status(),
]
STATE = admin.ServiceState(2, 1, 1, admin.Latch("latch-1", "slow", "mara", 12), 3.5, [DIGEST], TABLE)
REPLIES: list[admin.Reply] = [
    admin.Loaded(DIGEST, {"p95_ns": 12}, 2),
    admin.Installed(2, 2),
    admin.Done(),
    admin.Observed(
        2, {"fraud": STATE}, [WorkerCounts("w0", "r", {"k": b"\x00"})], [Seal("s", 1, 0, 9, "x", "y", 0, 0)]
    ),
    admin.Failed("refused", "no", "ask"),
]


@given(st.lists(st.sampled_from(REQUESTS), max_size=6), st.integers(1, 40))
def test_requests_survive_any_cutting_of_the_stream(messages: list[admin.Request], size: int) -> None:
    stream = b"".join(admin.frame(message) for message in messages)
    frames = admin.Frames()
    bodies = [body for at in range(0, len(stream), size) for body in frames.feed(stream[at : at + size])]
    assert [admin.request(body) for body in bodies] == messages


@pytest.mark.parametrize("message", REPLIES, ids=lambda m: type(m).__name__)
def test_replies_survive_their_frame(message: admin.Reply) -> None:
    (body,) = admin.Frames().feed(admin.frame(message))
    assert admin.reply(body) == message


@pytest.mark.parametrize("cls", [UsageError, RefusedError, IntegrityError, UnreachableError])
def test_an_error_arrives_as_the_same_error(cls: type[InterlockError]) -> None:
    back = admin.error_of(admin.failed(cls("what", "do this")))
    assert type(back) is cls
    assert (back.message, back.remedy) == ("what", "do this")


def test_a_frame_that_announces_too_much_is_refused_before_it_arrives() -> None:
    with pytest.raises(UsageError, match="too long"):
        admin.Frames().feed((admin.MAX_FRAME + 1).to_bytes(4, "little"))


def test_unknown_messages_are_refused() -> None:
    (reply,) = admin.Frames().feed(admin.frame(admin.Done()))
    with pytest.raises(UsageError):
        admin.request(reply)
    with pytest.raises(UsageError):
        admin.request(b"\xc1")
    (request,) = admin.Frames().feed(admin.frame(admin.Status()))
    with pytest.raises(IntegrityError):
        admin.reply(request)
