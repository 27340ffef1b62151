"""What each variant of an experiment did, by segment, counted from the recorded decisions.

Contract. Only decisions of the generations in which the arms were compared count, and of them only
those that the split gave to an arm: pinned versions and fallbacks belong to no arm. Sums of money
are kept by currency. The intervals are for one look at one cell: many segments are looked at here,
so that one of twenty lies outside by chance. What decides is the stop rule (`experiment.winner`).
Labels, where there are any, are matched by decision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from interlock.analysis.dispersion import FLOOR
from interlock.base.errors import UsageError
from interlock.decision.record import PINNED, DecisionRecord
from interlock.decision.table import ARM_NAMES
from interlock.rollout.experiment import wilson

SEGMENTS = ("all", "country", "mcc", "mcc_group", "currency", "decision")
"""By what may be told apart; `mcc_group` is the first two digits of the merchant category code."""
APPROVED = "APPROVE"


@dataclass
class Variant:
    """One arm in one segment.

    Attributes:
        requests: decisions.
        cards: distinct cards among them: what a split by card really compares.
        flagged: anything but APPROVE.
        decisions: how many of each.
        amounts: minor units of all transactions, by currency.
        approved_amounts: of those approved.
        labelled, fraud, missed: decisions with a label, fraud among them, and approved fraud.
    """

    requests: int = 0
    cards: int = 0
    flagged: int = 0
    decisions: dict[str, int] = field(default_factory=dict)
    amounts: dict[str, int] = field(default_factory=dict)
    approved_amounts: dict[str, int] = field(default_factory=dict)
    labelled: int = 0
    fraud: int = 0
    missed: int = 0

    @property
    def flag_rate(self) -> tuple[float, float, float]:
        """(rate, low, high): 95 % at one look, counts divided by the floor of the dispersion."""
        if not self.requests:
            return 0.0, 0.0, 1.0
        rate = self.flagged / self.requests
        return (rate, *wilson(rate, self.requests / FLOOR))


def tabulate(
    records: Iterable[DecisionRecord],
    service: str,
    generations: Collection[int],
    by: str = "all",
    labels: Mapping[str, bool] | None = None,
) -> dict[tuple[str, str], Variant]:
    """The variants by (segment, arm).

    Args:
        records: recorded decisions, in any order.
        service: whose.
        generations: under which both arms answered.
        by: one of `SEGMENTS`.
        labels: decision id to whether it was fraud, as far as it is known.

    Raises:
        UsageError: an unknown way of telling segments.
    """
    if by not in SEGMENTS:
        raise UsageError(f"no segments by {by}", f"known: {', '.join(SEGMENTS)}")
    found: dict[tuple[str, str], Variant] = {}
    cards: dict[tuple[str, str], set[object]] = {}
    for record in records:
        if not _counts(record, service, generations):
            continue
        key = _segment(record, by), record.arm
        _add(found.setdefault(key, Variant()), record, (labels or {}).get(record.decision_id))
        cards.setdefault(key, set()).add(record.inputs.get("card"))
    for key, variant in found.items():
        variant.cards = len(cards[key] - {None})
    return dict(sorted(found.items()))


def _counts(record: DecisionRecord, service: str, generations: Collection[int]) -> bool:
    in_split = record.arm in ARM_NAMES and not record.degraded & PINNED
    return in_split and record.service == service and record.generation in generations


def _segment(record: DecisionRecord, by: str) -> str:
    if by == "all":
        return "all"
    if by == "decision":
        return record.decision
    value = str(record.inputs.get("mcc" if by == "mcc_group" else by, "unknown"))
    return f"{value[:2]}xx" if by == "mcc_group" and value != "unknown" else value


def _add(variant: Variant, record: DecisionRecord, fraud: bool | None) -> None:
    approved = record.decision == APPROVED
    variant.requests += 1
    variant.flagged += not approved
    variant.decisions[record.decision] = variant.decisions.get(record.decision, 0) + 1
    currency, amount = str(record.inputs.get("currency", "unknown")), int(record.inputs.get("amount", 0))
    for sums in (variant.amounts, variant.approved_amounts) if approved else (variant.amounts,):
        sums[currency] = sums.get(currency, 0) + amount
    if fraud is not None:
        variant.labelled += 1
        variant.fraud += fraud
        variant.missed += fraud and approved
