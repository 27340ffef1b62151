"""The shop's past: simulated, tokenised before it touches a disk, kept as a snapshot, loaded online."""

from __future__ import annotations

import asyncio

from interlock.adapters.delta import snapshots
from interlock.adapters.delta.snapshots import Snapshot
from interlock.adapters.files.keys import token_key
from interlock.adapters.redis.online import RedisOnlineStore
from interlock.apps.control.client import ControlClient
from interlock.base.clock import SystemClock
from interlock.features.definition import FRAUD
from interlock.features.population import PopulationSettings, generate
from interlock.governance.recompute import loaded
from interlock.privacy.token import Tokeniser
from interlock.settings import Settings
from interlock.trust.event import NewEvent

TABLE = "transactions"
_ACTOR = "demo"


def write(settings: Settings, shop: PopulationSettings) -> Snapshot:
    """Simulate the history of a shop into the table `transactions` of this home.

    The token key is made first, so the snapshot's tokens are those that the scorer will use.
    """
    tokeniser = Tokeniser(token_key(settings.places.trust))
    table = snapshots.tokenise(generate(shop), tokeniser)
    source = f"simulated: {shop.cards} cards, {shop.days} days, seed {shop.seed}"
    snapshot = snapshots.write_snapshot(settings.places.tables / TABLE, table, TABLE, source)
    event = NewEvent(
        time_ns=SystemClock().now_ns(),
        type="dataset.registered",
        actor=_ACTOR,
        origin=_ACTOR,
        object=f"dataset/{TABLE}",
        outcome="success",
        body=snapshot.to_json(),
    )
    _append(settings, event)
    return snapshot


def load_online(settings: Settings, url: str, snapshot: Snapshot) -> int:
    """Bulk-load the online store with the states after the snapshot; returns the events they hold.

    The base is logged before anything is scored on it: every recomputation starts there.
    """

    async def load() -> None:
        store = await RedisOnlineStore.connect(url, FRAUD, settings.store)
        try:
            await store.load(states, base)
        finally:
            await store.close()

    states, base = snapshots.states_of(FRAUD, snapshot, snapshots.read(settings.places.tables / TABLE, snapshot))
    asyncio.run(load())
    _append(settings, loaded(base, SystemClock().now_ns(), _ACTOR))
    return base.events


def _append(settings: Settings, event: NewEvent) -> None:
    with ControlClient.open(settings) as control:
        control.append(event)
