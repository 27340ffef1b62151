"""Token buckets: how often each principal may ask.

A bucket of `burst` tokens is refilled with `per_second`; a request takes its cost or waits. Over
any span of t seconds a principal gets at most `burst + per_second * t`, exactly: the level is kept
in billionths of a token, so that a nanosecond adds a whole number of them and nothing is rounded.
Pure: `now_ns` is monotonic and handed in. One worker's buckets: a scorer of n workers admits up to
n times as much, which is stated in `trust/access.yaml`.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from interlock.base.clock import NS_PER_S
from interlock.trust.principal import Rates

MOST = 16_384
"""Buckets kept; beyond it only full ones give way."""


class TokenBucket:
    """One principal's bucket; it begins full."""

    __slots__ = ("_at_ns", "_level")

    def __init__(self, burst: int, now_ns: int) -> None:
        self._level = burst * NS_PER_S
        self._at_ns = now_ns

    def take(self, per_second: int, burst: int, cost: int, now_ns: int) -> int:
        """Take `cost` tokens: 0 when they were there, else the nanoseconds until they will be."""
        self._fill(per_second, burst, now_ns)
        missing = cost * NS_PER_S - self._level
        if missing <= 0:
            self._level = -missing
            return 0
        return -(-missing // per_second)

    def full_in(self, per_second: int, burst: int, now_ns: int) -> int:
        """Nanoseconds until it is full, so that forgetting it changes nothing."""
        self._fill(per_second, burst, now_ns)
        return -(-(burst * NS_PER_S - self._level) // per_second)

    def _fill(self, per_second: int, burst: int, now_ns: int) -> None:
        if now_ns > self._at_ns:
            self._level += (now_ns - self._at_ns) * per_second
            self._at_ns = now_ns
        self._level = min(self._level, burst * NS_PER_S)  # also when a new file made the bucket smaller


class Limits:
    """The buckets of all principals that have a rate.

    Args:
        rates: who has which; None of a principal: no limit.
        most: buckets kept at once.
    """

    def __init__(self, rates: Rates, most: int = MOST) -> None:
        self.rates = rates
        self._most = most
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def admit(self, principal: str, cost: int, now_ns: int) -> float:
        """Let a request in, or say when to come again.

        Args:
            principal: its name.
            cost: tokens that the request takes, at least 1.
            now_ns: monotonic.

        Returns:
            0 when it is admitted, else the seconds to wait; infinite when it asks for more than the
            bucket can hold.
        """
        rate = self.rates.of(principal)
        if rate is None:
            return 0.0
        if cost > rate.burst:
            return math.inf
        bucket = self._buckets.get(principal)
        if bucket is None:
            wait_ns = self._make_room(now_ns)
            if wait_ns:
                return wait_ns / NS_PER_S
            bucket = self._buckets[principal] = TokenBucket(rate.burst, now_ns)
        else:
            self._buckets.move_to_end(principal)
        return bucket.take(rate.per_second, rate.burst, cost, now_ns) / NS_PER_S

    def __len__(self) -> int:
        return len(self._buckets)

    def _make_room(self, now_ns: int) -> int:
        """0 once there is room, else the time until the longest unused bucket may be forgotten.

        One that is not full yet stays: else a principal could empty it, be forgotten and begin anew.
        """
        while len(self._buckets) >= self._most:
            name, bucket = next(iter(self._buckets.items()))
            rate = self.rates.of(name)
            wait_ns = bucket.full_in(rate.per_second, rate.burst, now_ns) if rate is not None else 0
            if wait_ns:
                return wait_ns
            del self._buckets[name]
        return 0
