"""The freeze calendar as the branch has it now: it holds for rollouts under way too, whenever they began.

Contract. The newest calendar that was read counts, also while Git cannot be reached. Before a new
controller has read one, whoever was held by it stays held. One that cannot be understood freezes
everything: nobody can tell what it was meant to allow. A return to an earlier version is never frozen.
"""

from __future__ import annotations

from collections.abc import Mapping

from interlock.apps.control.orders import MAX_REASON, line
from interlock.apps.control.wishes import FREEZE, Wish
from interlock.base.errors import UsageError
from interlock.rollout import freeze
from interlock.rollout.freeze import Window
from interlock.rollout.plan import ROLLBACK
from interlock.rollout.values import Rollout


class Calendar:
    """What is frozen in one environment."""

    def __init__(self, environment: str) -> None:
        self._environment = environment
        self._data: bytes | None = None
        self._windows: tuple[Window, ...] = ()
        self._problem = ""
        self._read = False

    def mind(self, wishes: Mapping[str, Wish]) -> None:
        """Take the calendar of what the branch asks for; no wishes: nothing new was read."""
        wish = next((each for each in wishes.values() if each.governed), None)
        if wish is None:
            return
        data = wish.governed.get(FREEZE)
        self._read = True
        if data == self._data:
            return
        self._data, self._windows, self._problem = data, (), ""
        try:
            self._windows = () if data is None else freeze.parse(data.decode("utf-8", "replace"), FREEZE)
        except UsageError as error:
            self._problem = str(error)

    def frozen(self, rollout: Rollout, now_ns: int) -> str:
        """Why a rollout may take no larger share now; empty: it may."""
        if rollout.plan is not None and rollout.plan.strategy == ROLLBACK:
            return ""
        if not self._read:
            return rollout.reason if rollout.hold == "frozen" else ""
        if self._problem:
            return line(f"the freeze calendar cannot be read: {self._problem}", MAX_REASON)
        why = freeze.frozen(self._windows, self._environment, rollout.service, now_ns)
        return line(f"releases are frozen: {why}", MAX_REASON) if why else ""
