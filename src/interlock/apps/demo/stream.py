"""The simulated shop as requests: the days after the history, in the order in which they happen.

Card numbers exist in the generator's memory and in the requests alone: nothing here writes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import msgspec

from interlock.base.clock import rfc3339
from interlock.features.population import FIELDS, Columns, PopulationSettings, stream


def shop(cards: int, days: int, seed: int) -> PopulationSettings:
    """The demo's shop: `days` of history, traffic even over the day (the demo sends at one rate)."""
    return PopulationSettings(cards=cards, terminals=max(1, cards // 4), days=days, seed=seed, day_spread_s=0.0)


def bodies(cards: int, history_days: int, seed: int, ahead: int = 2) -> Iterator[tuple[str, bytes]]:
    """(transaction id, request body) of the days after the history, without end.

    Args:
        cards: of the shop.
        history_days: where the history ends.
        seed: of the shop.
        ahead: days that are drawn before this returns, so that no draw delays the first requests.
    """
    days = stream(shop(cards, history_days, seed))
    drawn = list(islice(days, ahead))
    return chain.from_iterable(_requests(day) for day in chain(drawn, days))


def _requests(day: Columns) -> Iterator[tuple[str, bytes]]:
    for values in zip(*(day[name].tolist() for name in FIELDS), strict=True):
        transaction: dict[str, Any] = dict(zip(FIELDS, values, strict=True))
        transaction["event_time"] = rfc3339(transaction["event_time"])
        yield transaction["transaction_id"], msgspec.json.encode({"instances": [transaction]})
