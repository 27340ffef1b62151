"""One suite for every online store: a real Valkey, and one in memory."""  # long: one suite, one table of MUSTs

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from struct import unpack

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features.sets import TINY

from interlock.adapters.redis.online import RedisOnlineStore
from interlock.adapters.valkey.launcher import Valkey
from interlock.base.clock import SystemClock
from interlock.base.errors import IntegrityError, UnreachableError, UsageError
from interlock.features import reducer, state
from interlock.features.definition import FRAUD, MAX_AMOUNT, FeatureSet, feature_set
from interlock.features.memory import MemoryStore
from interlock.features.offline import Events, build_states, compute
from interlock.features.online import ANSWERED, DAMAGED, FRESH, HELD, RESUMED, Base, ColdError, OnlineStore, TripRequest
from interlock.features.options import StoreOptions

START = 1_790_000_000_000
# Budgets are generous: this suite is about answers, not about a busy machine's speed.
OPTIONS = StoreOptions(budget_ms=20_000)
QUICK = StoreOptions(budget_ms=20_000, hold_ms=1)

Scenario = Callable[[OnlineStore], Awaitable[None]]


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey()
    server.start(tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


@asynccontextmanager
async def redis_store(
    url: str, chosen: FeatureSet = TINY, options: StoreOptions = OPTIONS, *, base: bool = True
) -> AsyncIterator[RedisOnlineStore]:
    store = await RedisOnlineStore.connect(url, chosen, options)
    try:
        await store._ask(("FLUSHALL",))
        if base:
            await store.load([], Base.empty(chosen.set_hash))
        yield store
    finally:
        await store.close()


@pytest.fixture(params=["valkey", "memory"])
def play(request: pytest.FixtureRequest, valkey: Valkey) -> Callable[..., None]:
    """Runs a scenario on one implementation."""

    def run(scenario: Scenario, options: StoreOptions = OPTIONS, *, base: bool = True) -> None:
        async def on_valkey() -> None:
            async with redis_store(valkey.url, options=options, base=base) as store:
                await scenario(store)

        async def in_memory() -> None:
            store = MemoryStore(TINY, options, SystemClock())
            if base:
                await store.load([], Base.empty(TINY.set_hash))
            await scenario(store)

        asyncio.run(on_valkey() if request.param == "valkey" else in_memory())

    return run


def request(
    number: int, at: int = START, amount: int = 100, card: bytes = b"c1", terminal: bytes = b"t1"
) -> TripRequest:
    return TripRequest(b"fraud:%d" % number, b"w1", (card, terminal), at, amount)


def ints(values: bytes) -> list[int]:
    return list(unpack(f"<{len(values) // 8}q", values))


def test_a_batch_sees_its_own_earlier_transactions_in_order(play: Callable[..., None]) -> None:
    async def scenario(store: OnlineStore) -> None:
        first, second = await store.trip([request(1, amount=70), request(2, START + 10, card=b"c2")])
        assert (first.status, first.attempt, set(ints(first.values))) == (FRESH, 1, {0})
        assert ints(second.values) == [0, 0, 0, 0, 1, 70, 1, 70, 1, 70]
        assert [seq for _, seq in first.applied] == [1, 1]
        assert [seq for _, seq in second.applied] == [1, 2]

    play(scenario)


def test_a_second_delivery_is_held_and_counts_nothing(play: Callable[..., None]) -> None:
    async def scenario(store: OnlineStore) -> None:
        await store.trip([request(1)])
        (again,) = await store.trip([request(1)])
        assert again.status == HELD
        assert 0 < again.retry_ms <= OPTIONS.hold_ms
        (other,) = await store.trip([request(2)])
        assert ints(other.values)[0] == 1

    play(scenario)


def test_an_answered_transaction_returns_the_first_reply_byte_for_byte(play: Callable[..., None]) -> None:
    async def scenario(store: OnlineStore) -> None:
        await store.trip([request(1)])
        reply = bytes(range(256))
        assert await store.store_replies([(b"fraud:1", reply)]) == [None]
        assert await store.store_replies([(b"fraud:1", b"later"), (b"fraud:9", b"x")]) == [reply, None]
        found = await store.trip([request(1), request(1)])
        assert [(r.status, r.reply) for r in found] == [(ANSWERED, reply)] * 2

    play(scenario)


def test_a_lapsed_claim_is_resumed_with_the_stored_values_and_one_more_attempt(play: Callable[..., None]) -> None:
    async def scenario(store: OnlineStore) -> None:
        await store.trip([request(1, amount=5)])
        (fresh,) = await store.trip([request(2, START + 1)])
        await store.trip([request(3, START + 2)])
        attempts = []
        while len(attempts) < 2:
            (found,) = await store.trip([request(2, START + 500)])
            if found.status == RESUMED:
                assert (found.values, found.applied) == (fresh.values, fresh.applied)
                attempts.append(found.attempt)
        assert attempts == [2, 3]

    play(scenario, QUICK)


def test_a_store_without_a_base_is_cold_and_never_zeros(play: Callable[..., None]) -> None:
    async def scenario(store: OnlineStore) -> None:
        assert await store.base() is None
        with pytest.raises(ColdError):
            await store.trip([request(1)])
        base = Base("blake2b-128:00", TINY.set_hash, 4, 12)
        await store.load([], base)
        assert await store.base() == base
        assert (await store.trip([request(1)]))[0].status == FRESH

    play(scenario, base=False)


def test_a_load_replaces_every_state_and_continues_its_sequence(play: Callable[..., None]) -> None:
    async def scenario(store: OnlineStore) -> None:
        await store.trip([request(1, card=b"gone")])
        events = Events(
            {"card": np.array(["c1", "c1", "c2"]), "terminal": np.array(["t1", "t2", "t1"])},
            np.array([START, START + 1000, START + 2000]),
            np.array([10, 20, 30]),
        )
        await store.load(build_states(TINY, events, epoch=6), Base("s", TINY.set_hash, 6, 3))
        (found,) = await store.trip([request(2, START + 3000)])
        assert found.applied == ((6, 3), (6, 3))
        assert ints(found.values) == [2, 30, 2, 30, 2, 40, 2, 40, 2, 40]
        (gone,) = await store.trip([request(3, START + 3000, card=b"gone")])
        assert gone.applied[0][1] == 1

    play(scenario)


def test_a_base_of_other_velocities_is_refused(play: Callable[..., None]) -> None:
    async def scenario(store: OnlineStore) -> None:
        with pytest.raises(UsageError):
            await store.load([], Base.empty("00000000"))

    play(scenario)


def test_an_amount_out_of_bounds_damages_its_own_transaction_alone(play: Callable[..., None]) -> None:
    async def scenario(store: OnlineStore) -> None:
        found = await store.trip([request(1), request(2, amount=MAX_AMOUNT + 1), request(3)])
        assert [r.status for r in found] == [FRESH, DAMAGED, FRESH]
        assert ints(found[2].values)[0] == 1

    play(scenario)


OFFSETS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 30_000), st.integers(0, 900_000)),
        st.integers(-50, 5_000),
        st.sampled_from([b"c1", b"c2"]),
        st.sampled_from([b"t1", b"t2"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=60)
@given(OFFSETS)
def test_online_equals_the_reducer_over_late_tied_duplicate_and_unordered_events(
    valkey: Valkey, events: list[tuple[int, int, bytes, bytes, bool]]
) -> None:
    """Integers of every read, and at the end every state, byte for byte."""

    async def scenario() -> None:
        async with redis_store(valkey.url) as store:
            batch: list[TripRequest] = []
            for number, (offset, amount, card, terminal, twice) in enumerate(events):
                one = request(number, START + offset, amount, card, terminal)
                batch += [one, one] if twice else [one]
            found = [r for r in await store.trip(batch) if r.status == FRESH]
            assert len(found) == len(events)
            states: dict[tuple[str, bytes], bytes] = {}
            for (offset, amount, card, terminal, _), result in zip(events, found, strict=True):
                expected: list[int] = []
                for velocity, token, applied in zip(TINY.velocities, (card, terminal), result.applied, strict=True):
                    before = states.get((velocity.entity, token))
                    expected += reducer.read(velocity, before, START + offset)
                    after = reducer.record(velocity, before, START + offset, amount, applied[0])
                    assert reducer.position(after) == applied
                    states[velocity.entity, token] = after
                assert ints(result.values) == expected
            for (kind, token), data in states.items():
                assert await store.state(kind, token.decode()) == data

    asyncio.run(scenario())


def test_a_seeded_history_of_four_entities_equals_offline_compute(valkey: Valkey) -> None:
    rng = np.random.default_rng(5)
    size = 3_000
    at = START + np.cumsum(rng.integers(0, 400_000, size)) - rng.integers(0, 5_000, size)
    tokens = {
        kind: rng.integers(0, n, size).astype("U6") for kind, n in zip(FRAUD.entities, (60, 25, 80, 90), strict=True)
    }
    amount = rng.integers(1, 10**6, size)
    expected = compute(FRAUD, Events(tokens, at, amount))

    async def scenario() -> None:
        async with redis_store(valkey.url, FRAUD) as store:
            batch = [
                TripRequest(
                    b"f:%d" % i, b"w", tuple(tokens[k][i].encode() for k in FRAUD.entities), int(at[i]), int(amount[i])
                )
                for i in range(size)
            ]
            found = [r for start in range(0, size, 500) for r in await store.trip(batch[start : start + 500])]
            values = np.frombuffer(b"".join(r.values for r in found), "<i8").reshape(size, 40)
            assert int((values != expected).sum()) == 0
            for kind, token, data in build_states(FRAUD, Events(tokens, at, amount)):
                kept = await store.state(kind, token)
                # The epoch of a state that was born online is its birth; everything else is equal.
                assert kept is not None
                assert kept[5:] == data[5:]

    asyncio.run(scenario())


def test_concurrent_deliveries_of_one_transaction_count_once(valkey: Valkey) -> None:
    async def scenario() -> None:
        async with redis_store(valkey.url) as one, redis_again(valkey.url) as two:
            for number in range(40):
                trips = [store.trip([request(number), request(number)]) for store in (one, two, one)]
                found = [r for results in await asyncio.gather(*trips) for r in results]
                assert sorted(r.status for r in found) == [FRESH] + [HELD] * 5
            (last,) = await one.trip([request(999)])
            assert last.applied[0][1] == 41

    asyncio.run(scenario())


@asynccontextmanager
async def redis_again(url: str, options: StoreOptions = OPTIONS) -> AsyncIterator[RedisOnlineStore]:
    store = await RedisOnlineStore.connect(url, TINY, options)
    try:
        yield store
    finally:
        await store.close()


def test_a_server_that_lost_its_scripts_gets_them_again(valkey: Valkey) -> None:
    async def scenario() -> None:
        async with redis_store(valkey.url) as store:
            await store.trip([request(1)])
            await store._ask(("SCRIPT", "FLUSH"))
            found = await store.trip([request(2), request(3)])
            assert [r.status for r in found] == [FRESH, FRESH]
            assert ints(found[1].values)[0] == 2
            await store._ask(("SCRIPT", "FLUSH"))
            assert await store.store_replies([(b"fraud:1", b"r")]) == [None]

    asyncio.run(scenario())


@pytest.mark.parametrize("spoil", ["wrong type", "foreign string", "truncated"])
def test_a_key_that_is_no_state_is_damaged_and_left_alone(valkey: Valkey, spoil: str) -> None:
    async def scenario() -> None:
        async with redis_store(valkey.url) as store:
            await store.trip([request(1), request(2)])
            key = state.state_key(TINY.set_hash, "terminal", "t1")
            good = await store.state("terminal", "t1")
            assert good is not None
            if spoil == "wrong type":
                await store._ask(("DEL", key))
                await store._ask(("LPUSH", key, "x"))
            else:
                await store._ask(("SET", key, b"hello" if spoil == "foreign string" else good[:-3]))
            found = await store.trip([request(3), request(4, terminal=b"t2")])
            assert [r.status for r in found] == [DAMAGED, FRESH]
            # The damaged transaction recorded nothing anywhere: its card was counted by the other ones alone.
            assert ints(found[1].values)[0] == 2

    asyncio.run(scenario())


def test_a_claim_of_the_wrong_type_is_damaged(valkey: Valkey) -> None:
    async def scenario() -> None:
        async with redis_store(valkey.url) as store:
            await store._ask(("LPUSH", b"c:fraud:1", "x"))
            assert (await store.trip([request(1)]))[0].status == DAMAGED
            assert (await store.trip([request(2)]))[0].applied[0][1] == 1

    asyncio.run(scenario())


def test_an_unreadable_base_is_an_integrity_error(valkey: Valkey) -> None:
    async def scenario() -> None:
        async with redis_store(valkey.url) as store:
            await store._ask(("SET", state.base_key(TINY.set_hash), "?"))
            with pytest.raises(IntegrityError):
                await store.base()

    asyncio.run(scenario())


def test_a_flushed_store_is_cold_under_way(valkey: Valkey) -> None:
    async def scenario() -> None:
        async with redis_store(valkey.url) as store:
            await store.trip([request(1)])
            await store._ask(("FLUSHALL",))
            with pytest.raises(ColdError):
                await store.trip([request(2)])

    asyncio.run(scenario())


def test_a_stalled_server_costs_the_budget_and_its_late_answers_reach_nobody(valkey: Valkey) -> None:
    options = StoreOptions(budget_ms=60, stall_ms=20_000)

    async def scenario() -> None:
        async with redis_store(valkey.url) as patient, redis_again(valkey.url, options) as store:
            await until_connected(store)
            os.kill(valkey.pid, signal.SIGSTOP)
            try:
                with pytest.raises(UnreachableError):
                    await store.trip([request(1, amount=111), request(2, amount=111)])
                with pytest.raises(UnreachableError):
                    await store.trip([request(3)])
            finally:
                os.kill(valkey.pid, signal.SIGCONT)
            # The first batch was recorded late; this answer is the new batch's own.
            await patient.base()
            found = None
            while found is None:
                try:
                    (found,) = await store.trip([request(4, card=b"c9", terminal=b"t9")])
                except UnreachableError:
                    continue
            assert found.status in (FRESH, HELD)
            (after,) = await patient.trip([request(5)])
            assert ints(after.values)[:2] == [2, 222]

    asyncio.run(scenario())


async def until_connected(store: RedisOnlineStore) -> None:
    while not store.connected:  # noqa: ASYNC110 the store offers no event to await
        await asyncio.sleep(0.002)


def test_batches_in_flight_fail_when_the_connection_dies_and_the_store_returns_by_itself(tmp_path: Path) -> None:
    async def scenario(server: Valkey) -> None:
        async with redis_store(server.start(tmp_path)) as store:
            os.kill(server.pid, signal.SIGSTOP)
            trip = asyncio.ensure_future(store.trip([request(1)]))
            await asyncio.sleep(0)
            os.kill(server.pid, signal.SIGKILL)
            with pytest.raises(UnreachableError):
                await trip
            with pytest.raises(UnreachableError):
                await store.trip([request(2)])
            server.stop()
            server.start(tmp_path)
            await until_connected(store)
            # A crash loses the state, and says so.
            with pytest.raises(ColdError):
                await store.trip([request(3)])

    server = Valkey()
    try:
        asyncio.run(scenario(server))
    finally:
        server.stop()


def test_a_store_that_is_not_there_is_unreachable_and_found_when_it_comes(tmp_path: Path) -> None:
    server = Valkey()

    async def scenario() -> None:
        store = await RedisOnlineStore.connect(f"unix://{tmp_path}/valkey.sock", TINY, OPTIONS)
        try:
            with pytest.raises(UnreachableError):
                await store.trip([request(1)])
            server.start(tmp_path)
            await until_connected(store)
            assert await store.base() is None
        finally:
            await store.close()

    try:
        asyncio.run(scenario())
    finally:
        server.stop()


def test_any_subset_of_entities_works_in_script_and_reducer(valkey: Valkey) -> None:
    pair = feature_set("pair", 1, ("card", "terminal"))

    async def scenario() -> None:
        async with redis_store(valkey.url, pair) as store:
            found = await store.trip([request(1), request(2, START + 1)])
            assert [len(r.values) for r in found] == [160, 160]
            assert ints(found[1].values) == [1, 100] * 10

    asyncio.run(scenario())


def test_a_resumed_claim_is_held_anew_for_whoever_resumed_it(valkey: Valkey) -> None:
    patient = StoreOptions(budget_ms=20_000, hold_ms=60_000)

    async def scenario() -> None:
        async with redis_store(valkey.url, options=QUICK) as hasty, redis_again(valkey.url, patient) as slow:
            await hasty.trip([request(1)])
            found = (await slow.trip([request(1)]))[0]
            while found.status == HELD:
                found = (await slow.trip([request(1)]))[0]
            assert found.status == RESUMED
            (other,) = await hasty.trip([request(1)])
            assert other.status == HELD
            assert other.retry_ms > 10_000

    asyncio.run(scenario())


def test_a_state_lives_as_long_as_anything_in_it_can_count(valkey: Valkey) -> None:
    async def scenario() -> None:
        async with redis_store(valkey.url) as store:
            await store.trip([request(1)])
            for velocity, token in zip(TINY.velocities, ("c1", "t1"), strict=True):
                left = await store._ask(("TTL", state.state_key(TINY.set_hash, velocity.entity, token)))
                assert velocity.horizon_s - 20 <= left <= velocity.horizon_s

    asyncio.run(scenario())
