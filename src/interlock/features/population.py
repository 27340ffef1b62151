"""A seeded shop of card transactions, after the Fraud Detection Handbook's published algorithm.

Le Borgne, Siblini, Lebichot, Bontempi, "Reproducible Machine Learning for Credit Card Fraud
Detection - Practical Handbook", chapter 3: customers and terminals on a 100 x 100 square; each
customer has a mean amount, a mean number of transactions per day, and the terminals within a
radius; three fraud scenarios (1 a large amount, 2 a compromised terminal, 3 a compromised card).
Added here: card numbers (Luhn-valid, test BINs), devices, addresses, merchants, MCC, countries,
age groups; and what compromises look like in traffic: a skimmed terminal sees cloned cards on
top of its own, a stolen card is used in quick bursts from an attacker's device.

Every day is drawn from (seed, day) alone: a history and the `stream` that continues it are one
population, and equal settings give equal transactions. Scenario lengths are settings, so that a
history of five days shows all three.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.base.clock import NS_PER_S
from interlock.base.errors import UsageError

Columns = dict[str, npt.NDArray[Any]]
Generator = np.random.Generator
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DAY_S = 86_400
TEST_BINS = ("400000", "555555")
AGE_GROUPS = ("18-25", "26-40", "41-60", "61+")

_SIDE = 100.0
_MCCS = ("5411", "5812", "5541", "5912", "5311", "5732", "5999", "7011", "4111", "4829")
_MCC_SHARES = (0.24, 0.18, 0.12, 0.08, 0.09, 0.07, 0.08, 0.05, 0.06, 0.03)
_ABROAD = ("DE", "ES", "IT", "BE", "GB", "US")
_RADIUS_CHUNK = 1_000


@dataclass(frozen=True)
class PopulationSettings:
    """What to simulate. Amounts are minor units, lengths are days, counts are per day.

    Attributes:
        cards: customers, one card each.
        terminals: where they pay.
        days: length of the history.
        tx_per_card_day: mean; each card's own mean is uniform in 0 … twice this.
        seed: of everything.
        start_ns: first midnight of the history.
        radius: how far a customer goes to pay.
        day_spread_s: spread of the time of day around noon; 0: even over the day.
        currency: of every amount.
        home_country: where most terminals stand.
        large_amount: scenario 1 marks amounts above this (the book: 220.00 in 183 days).
        terminals_hit: scenario 2, newly compromised terminals a day.
        terminal_days: how long they stay so.
        terminal_burst: cloned-card transactions, as a multiple of an average terminal's traffic.
        cards_hit: scenario 3, newly compromised cards a day.
        card_days: how long they stay so.
        card_share: share of a compromised card's own transactions that are fraud.
        card_factor: how much larger those amounts are.
        card_burst: mean number of quick extra transactions per compromised card and day.
        attackers: devices and addresses that bursts come from.
    """

    cards: int = 20_000
    terminals: int = 5_000
    days: int = 5
    tx_per_card_day: float = 1.9
    seed: int = 7
    start_ns: int = 1_791_158_400 * NS_PER_S
    radius: float = 5.0
    day_spread_s: float = 20_000.0
    currency: str = "EUR"
    home_country: str = "FR"
    large_amount: int = 19_000
    terminals_hit: int = 10
    terminal_days: int = 1
    terminal_burst: float = 3.0
    cards_hit: int = 40
    card_days: int = 2
    card_share: float = 1 / 3
    card_factor: float = 5.0
    card_burst: float = 1.5
    attackers: int = 60

    def __post_init__(self) -> None:
        """Refuse settings that simulate nothing."""
        sizes = (self.cards, self.terminals, self.days, self.attackers, self.terminal_days, self.card_days)
        if min(sizes) < 1 or self.tx_per_card_day <= 0 or self.radius <= 0:
            raise UsageError("a population needs cards, terminals, days and traffic", "give positive numbers")
        if self.cards > 10**9 or self.terminals_hit > self.terminals or self.cards_hit > self.cards:
            raise UsageError("more is compromised than exists", "lower terminals_hit or cards_hit")


class Population:
    """The customers and terminals; `day` draws one day's transactions."""

    def __init__(self, settings: PopulationSettings) -> None:
        self.settings = settings
        rng = np.random.default_rng([settings.seed, 0])
        self._mean = rng.uniform(500, 10_000, settings.cards)
        self._rate = rng.uniform(0, 2 * settings.tx_per_card_day, settings.cards)
        self._reach = _reach(
            rng.uniform(0, _SIDE, (settings.cards, 2)), rng.uniform(0, _SIDE, (settings.terminals, 2)), settings.radius
        )
        self.pans = card_numbers(settings.cards, settings.seed)
        self.age_groups = np.array(AGE_GROUPS)[rng.choice(4, settings.cards, p=(0.15, 0.35, 0.35, 0.15))]
        self._terminals = _names("T", settings.terminals)
        merchants = rng.integers(0, max(settings.terminals // 2, 1), settings.terminals)
        self._merchants = _names("M", settings.terminals)[merchants]
        self._mccs = np.array(_MCCS)[rng.choice(len(_MCCS), settings.terminals, p=_MCC_SHARES)]
        abroad = rng.random(settings.terminals) < 0.08
        self._countries = np.where(abroad, rng.choice(_ABROAD, settings.terminals), settings.home_country)
        # Two devices and one home address per card; attackers' come after them.
        self._devices = _names("D", 2 * settings.cards + settings.attackers)
        self._addresses = _addresses(settings.cards + settings.attackers, rng)

    def day(self, number: int) -> Columns:
        """Transactions of day `number` (0 is the first of the history), in time order."""
        rng = np.random.default_rng([self.settings.seed, 1, number])
        parts = [self._ordinary(rng)]
        parts += self._terminal_fraud(rng, number, parts[0])
        parts += self._card_fraud(rng, number, parts[0])
        rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        inside = (rows["second"] > 0) & (rows["second"] < DAY_S)
        order = np.flatnonzero(inside)[np.argsort(rows["second"][inside], kind="stable")]
        return self._dress({name: values[order] for name, values in rows.items()}, number)

    def _ordinary(self, rng: Generator) -> Columns:
        """The book's genuine transactions, with scenario 1 marked."""
        card = np.repeat(np.arange(self.settings.cards), rng.poisson(self._rate))
        rows = self._rows(rng, card, self._pick_terminal(rng, card), self._times(rng, len(card)))
        rows["scenario"][rows["amount"] > self.settings.large_amount] = 1
        return rows

    def _rows(self, rng: Generator, card: Ints, terminal: Ints, second: Floats) -> Columns:
        mean = self._mean[card]
        amount = rng.normal(mean, mean / 2)
        amount = np.where(amount < 0, rng.uniform(0, 2 * mean), amount)
        second_device = rng.random(len(card)) < 0.2
        elsewhere = rng.random(len(card)) < 0.1
        return {
            "card": card,
            "terminal": terminal,
            "second": second,
            "amount": np.maximum(np.rint(amount), 1).astype(np.int64),
            "device": card + np.where(second_device, self.settings.cards, 0),
            "address": np.where(elsewhere, rng.integers(0, self.settings.cards, len(card)), card),
            "scenario": np.zeros(len(card), np.int8),
        }

    def _times(self, rng: Generator, count: int) -> Floats:
        if self.settings.day_spread_s:
            return rng.normal(DAY_S / 2, self.settings.day_spread_s, count)
        return rng.uniform(0, DAY_S, count)

    def _pick_terminal(self, rng: Generator, card: Ints) -> Ints:
        starts, near = self._reach
        first, count = starts[card], starts[card + 1] - starts[card]
        picked: Ints = near[first + (rng.random(len(card)) * count).astype(np.int64)]
        return picked

    def _hit(self, kind: int, number: int, length: int, population: int, a_day: int) -> Ints:
        """What is compromised on a day: drawn on each of the last `length` days."""
        draws = [
            np.random.default_rng([self.settings.seed, kind, day + length]).choice(population, a_day, replace=False)
            for day in range(number - length + 1, number + 1)
        ]
        return np.unique(np.concatenate(draws))

    def _terminal_fraud(self, rng: Generator, number: int, rows: Columns) -> list[Columns]:
        """Scenario 2: everything at a compromised terminal, and cloned cards on top."""
        chosen = self.settings
        hit = self._hit(2, number, chosen.terminal_days, chosen.terminals, chosen.terminals_hit)
        rows["scenario"][np.isin(rows["terminal"], hit)] = 2
        usual = chosen.cards * chosen.tx_per_card_day / chosen.terminals
        terminal = np.repeat(hit, rng.poisson(chosen.terminal_burst * usual, len(hit)))
        card = rng.integers(0, chosen.cards, len(terminal))
        # Clones are used in one sitting of some hours.
        sitting = rng.uniform(0, DAY_S - 14_400, chosen.terminals)[terminal]
        extra = self._rows(rng, card, terminal, sitting + rng.uniform(0, 14_400, len(terminal)))
        extra["scenario"][:] = 2
        return [extra]

    def _card_fraud(self, rng: Generator, number: int, rows: Columns) -> list[Columns]:
        """Scenario 3: some of a compromised card's amounts are multiplied, and bursts are added."""
        chosen = self.settings
        hit = self._hit(3, number, chosen.card_days, chosen.cards, chosen.cards_hit)
        taken = np.isin(rows["card"], hit) & (rng.random(len(rows["card"])) < chosen.card_share)
        rows["amount"][taken] = np.rint(rows["amount"][taken] * chosen.card_factor).astype(np.int64)
        rows["scenario"][taken] = 3
        card = np.repeat(hit, rng.poisson(chosen.card_burst, len(hit)))
        begin = self._times(rng, chosen.cards)[card]
        terminal = rng.integers(0, chosen.terminals, len(card))
        extra = self._rows(rng, card, terminal, begin + rng.uniform(0, 900, len(card)))
        attacker = rng.integers(0, chosen.attackers, chosen.cards)[card]
        extra["device"] = 2 * chosen.cards + attacker
        extra["address"] = chosen.cards + attacker
        extra["scenario"][:] = 3
        return [extra]

    def _dress(self, rows: Columns, number: int) -> Columns:
        """Indexes become the fields of a transaction."""
        count = len(rows["card"])
        card, terminal = rows["card"], rows["terminal"]
        at = self.settings.start_ns + number * DAY_S * NS_PER_S + (rows["second"] * NS_PER_S).astype(np.int64)
        return {
            "transaction_id": np.char.add(f"t{self.settings.seed}-{number}-", np.arange(count).astype("U7")),
            "pan": self.pans[card],
            "amount": rows["amount"],
            "currency": np.full(count, self.settings.currency),
            "terminal_id": self._terminals[terminal],
            "device_id": self._devices[rows["device"]],
            "ip": self._addresses[rows["address"]],
            "mcc": self._mccs[terminal],
            "country": self._countries[terminal],
            "event_time": at,
            "merchant": self._merchants[terminal],
            "age_group": self.age_groups[card],
            "label": (rows["scenario"] > 0).astype(np.int8),
            "scenario": rows["scenario"],
        }


FIELDS = (
    "transaction_id",
    "pan",
    "amount",
    "currency",
    "terminal_id",
    "device_id",
    "ip",
    "mcc",
    "country",
    "event_time",
)
"""The columns that a payment application sends; the others are known afterwards or elsewhere."""


def generate(settings: PopulationSettings) -> Columns:
    """The whole history as columns in time order (`event_time` in ns since the epoch, UTC)."""
    population = Population(settings)
    days = [population.day(number) for number in range(settings.days)]
    return {name: np.concatenate([day[name] for day in days]) for name in days[0]}


def stream(settings: PopulationSettings) -> Iterator[Columns]:
    """The days after the history, one by one, without end."""
    population = Population(settings)
    number = settings.days
    while True:
        yield population.day(number)
        number += 1


def card_numbers(count: int, seed: int) -> npt.NDArray[np.str_]:
    """`count` different 16-digit numbers: a test BIN, nine digits, the Luhn digit."""
    serial = (np.arange(count, dtype=np.int64) * 700_000_001 + seed * 7_919) % 10**9
    bins = np.array([int(b) for b in TEST_BINS], np.int64)[np.arange(count) % len(TEST_BINS)]
    body = bins * 10**9 + serial
    digits = body[:, None] // 10 ** np.arange(15, dtype=np.int64) % 10
    doubled = digits[:, ::2] * 2
    check = -(np.where(doubled > 9, doubled - 9, doubled).sum(axis=1) + digits[:, 1::2].sum(axis=1)) % 10
    numbers: npt.NDArray[np.str_] = (body * 10 + check).astype("U16")
    return numbers


def _reach(customers: Floats, terminals: Floats, radius: float) -> tuple[Ints, Ints]:
    """Per customer the terminals within the radius, else the nearest one: offsets and indexes."""
    counts: list[Ints] = []
    found: list[Ints] = []
    for start in range(0, len(customers), _RADIUS_CHUNK):
        part = customers[start : start + _RADIUS_CHUNK]
        distance = np.square(part[:, :1] - terminals[:, 0]) + np.square(part[:, 1:] - terminals[:, 1])
        near = distance < radius * radius
        near[np.arange(len(part)), distance.argmin(axis=1)] = True
        counts.append(near.sum(axis=1))
        found.append(np.nonzero(near)[1])
    return np.r_[0, np.cumsum(np.concatenate(counts))], np.concatenate(found)


def _names(letter: str, count: int) -> npt.NDArray[np.str_]:
    return np.char.add(letter, np.char.zfill(np.arange(count).astype("U7"), 7))


def _addresses(count: int, rng: Generator) -> npt.NDArray[np.str_]:
    """Addresses of the benchmark range 198.18.0.0/15 (RFC 2544), then of 100.64.0.0/10 (RFC 6598)."""
    place = rng.permutation(count)
    text = [
        f"198.{18 + (i >> 16)}.{i >> 8 & 255}.{i & 255}"
        if i < 1 << 17
        else f"100.{64 + (i >> 16 & 63)}.{i >> 8 & 255}.{i & 255}"
        for i in place.tolist()
    ]
    return np.array(text)
