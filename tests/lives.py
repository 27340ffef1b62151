"""Random lives of a deployment: releases of every kind, and faults of every kind, drawn from a seed.

A `Life` is a list of acts; `play` performs it in a `World` of two services, ends all faults, and
lets everything come to its end. What must hold at every instant is checked by the world; what must
hold at the end by `World.settled`. `shrink` removes acts while the life still fails.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tests.world import Behaviour, Crash, World

from interlock.apps.views import rollout as view
from interlock.base.clock import NS_PER_S
from interlock.decision.table import CHAMPION
from interlock.rollout.replay import replay
from interlock.rollout.states import FINAL

SERVICES = ("fraud", "credit")
LEASE_S = 30.0
BEHAVIOURS = {
    "same": Behaviour(),
    "flags": Behaviour(flag_rate=0.3),
    "silent": Behaviour(flag_rate=0.0005),
    "errors": Behaviour(error_rate=0.5),
    "slow": Behaviour(model_ms=3.0),
    "misses": Behaviour(miss_rate=0.3),
    "crashes": Behaviour(loads=False),
}
POLICIES: dict[str, dict[str, Any]] = {
    "quick": {"steps": "{weight: 50, for: 1s}", "watch": 1},
    "canary": {"steps": "{shadow: 1s}, {weight: 10, for: 1s}, {weight: 50, for: 1s}", "watch": 2},
    "slow": {"steps": "{weight: 10, for: 6s}, {weight: 50, for: 6s}", "watch": 4},
    "blue-green": {"strategy": "blue-green", "steps": "{shadow: 2s}", "holdback": 0.0, "watch": 2},
    "shadow": {"strategy": "shadow", "steps": "{shadow: 2s}", "watch": 1},
    "parity": {"strategy": "parity", "steps": "{shadow: 1s}, {weight: 50, for: 1s}", "watch": 1},
    "evidence": {"advance": "evidence", "steps": "{shadow: 1s}, {weight: 50, for: 2s}", "watch": 2, "deadline": 20},
    "ab": {
        "strategy": "ab",
        "steps": "",
        "watch": 1,
        "more": "  experiment: {split: 30, for: 3s, then: candidate}\n",
    },
}
LIMIT_S = 2_000.0
"""Within which every life has come to its end."""
OFTEN = ("kill", "kill", "kill", "kill", "sleep", "sleep", "ask", "ask")
"""Faults that are drawn more often than the others."""
GOOD = 0.5
"""The share of releases that change nothing for the worse."""


@dataclass(frozen=True)
class Act:
    """Something that happens to a service or to the deployment, `at_s` seconds into the life."""

    at_s: float
    what: str
    service: str = SERVICES[0]
    kind: str = ""
    number: int = 0
    lasts_s: float = 0.0


@dataclass(frozen=True)
class Life:
    """A deployment's story; it depends on nothing else."""

    seed: int
    acts: tuple[Act, ...]


@dataclass(frozen=True)
class Played:
    """How a life went."""

    rollouts: int
    ends: Counter[str]
    """Rollouts by their end, and how many were ever `held`."""
    crashes: int
    seconds: float


def draw(seed: int, releases: int = 8) -> Life:
    """A life with so many releases and about as many faults."""
    chance = random.Random(seed)
    acts: list[Act] = []
    at_s = 0.0
    for _ in range(releases):
        service = chance.choice(SERVICES)
        behaviour = "same" if chance.random() < GOOD else chance.choice(sorted(BEHAVIOURS))
        kind = f"{behaviour} {chance.choice(sorted(POLICIES))}"
        acts.append(Act(at_s, "release" if chance.random() < 0.95 else "unapproved", service, kind))
        acts.extend(_fault(chance, at_s + chance.uniform(0, 12)) for _ in range(chance.randrange(3)))
        at_s += chance.choice((2.0, 8.0, 14.0, 20.0))
    return Life(seed, tuple(sorted(acts, key=lambda act: act.at_s)))


def _fault(chance: random.Random, at_s: float) -> Act:
    what, kind = chance.choice([*sorted(FAULTS), *OFTEN]), ""
    if what == "ask":
        kind = chance.choice(("abort", "pause", "resume", "advance", "rollback"))
    elif what in ("kill", "sleep"):
        kind = chance.choice(("before", "after"))
    lasts_s = chance.choice((0.5, 2.0, 7.0, 12.0))
    return Act(at_s, what, chance.choice(SERVICES), kind, chance.randrange(14), lasts_s)


class Player:
    """A world and what is wrong with it at the moment."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed, tps=200, lease_s=LEASE_S)
        self.world.weather.random = random.Random(seed)
        self.ending: list[tuple[float, Callable[[], None]]] = []
        self.versions = 0
        self.crashes = 0
        self.now_s = 0.0

    def begin(self) -> None:
        """Every service has a settled version before anything goes wrong."""
        for service in SERVICES:
            self.world.release("1.0.0", service=service, watch=1)
        self.world.finish()

    def perform(self, act: Act) -> None:
        """Let it happen."""
        end = FAULTS[act.what](self, act) if act.what in FAULTS else self._release(act)
        if end is not None:
            self.ending.append((self.now_s + act.lasts_s, end))

    def _release(self, act: Act) -> None:
        self.versions += 1
        behaviour, policy = act.kind.split()
        self.world.release(
            f"1.{self.versions}.0",
            BEHAVIOURS[behaviour],
            approve=act.what == "release",
            service=act.service,
            **{"hold": 40, "deadline": 60, **POLICIES[policy]},
        )

    def turn(self) -> None:
        """Half a second; a killed controller is followed by another."""
        for end in [end for until, end in self.ending if until <= self.now_s]:
            end()
        self.ending = [each for each in self.ending if each[0] > self.now_s]
        try:
            self.world.turn()
        except Crash:
            self.crashes += 1
            self.world.check()
            self.world.others = [each for each in self.world.others if not each[1].dead]
            if self.world.killer.dead:
                self.world.restart(lapse=self.crashes % 2 == 0)
        self.now_s += 0.5

    def calm(self) -> None:
        """All faults end."""
        for _, end in self.ending:
            end()
        self.ending.clear()


def play(life: Life) -> Played:
    """Live it to its end.

    Raises:
        AssertionError: something did not hold.
    """
    player = Player(life.seed)
    player.begin()
    acts = list(life.acts)
    while acts or player.ending:
        while acts and acts[0].at_s <= player.now_s:
            player.perform(acts.pop(0))
        player.turn()
    player.calm()
    world = player.world
    quiet = 0
    while quiet < 2 * (world.control.lease_s + 8):
        assert player.now_s < LIMIT_S, "the rollouts do not come to an end"
        player.turn()
        busy = any(each.state not in FINAL or each.pending for each in player.world.journal.values())
        quiet = 0 if busy else quiet + 1
    world.settled(SERVICES, strays=any(act.what == "sleep" for act in life.acts))
    rollouts = list(world.journal.values())
    events = view.read(world.store, looks=True)
    for each in rollouts:
        assert not (found := replay(events, each.id)["differences"]), f"the replay differs: {found[0]}"
    ends = Counter(each.state.value for each in rollouts)
    ends["held"] = len({event.body["rollout"] for event in world.store.after(0, ("rollout.held",))})
    return Played(len(rollouts), ends, player.crashes, player.now_s)


def fails(life: Life) -> str:
    """What did not hold in a life; empty: everything did."""
    try:
        play(life)
    except AssertionError as error:
        return str(error).splitlines()[0] if str(error) else "an assertion without words"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def shrink(life: Life, fails: Callable[[Life], str] = fails) -> Life:
    """A life that fails as well, with no act that could be left out."""
    length = max(1, len(life.acts) // 2)
    while length:
        for start in range(0, len(life.acts), length):
            less = replace(life, acts=life.acts[:start] + life.acts[start + length :])
            if fails(less):
                return shrink(less, fails)
        length //= 2
    return life


# --- the faults: each begins something and returns what ends it -------------------------------


def _ask(player: Player, act: Act) -> None:
    if act.kind == "advance":
        player.world.ask("resume", act.service, advance=True)
    else:
        player.world.ask(act.kind, act.service)


def _kill(player: Player, act: Act) -> None:
    player.world.killer.at = len(player.world.killer.calls) + act.number
    player.world.killer.after = act.kind == "after"
    player.world.killer.asleep = None


def _sleep(player: Player, act: Act) -> None:
    """The leader falls asleep around a call; another takes over; then it wakes and goes on with its turn."""
    world, killer = player.world, player.world.killer

    def meanwhile() -> None:
        killer.at = None
        world.clock.advance(world.control.lease_s + 1)
        world.beside()
        for _ in range(round(2 * act.lasts_s)):
            fresh = world.controller
            fresh.turn()
            world.check()
            world.clock.advance(0.5)
            world.scorers.tick(round(world.tps / 2))

    _kill(player, act)
    killer.asleep = meanwhile


def _beside(player: Player, act: Act) -> None:
    player.world.beside()


def _latch(player: Player, act: Act) -> None:
    world = player.world
    if world.scorers.route(act.service).table is not None and not world.scorers.down:
        world.scorers.retreat(act.service, f"latch {player.now_s}", "by hand", "ada", world.clock.now_ns())


def _setting(name: str, value: Any, calm: Any) -> Callable[[Player, Act], Callable[[], None]]:
    """A fault that is an attribute of the world, written with dots."""
    *path, last = name.split(".")

    def begin(player: Player, act: Act) -> Callable[[], None]:
        holder: Any = player.world
        for part in path:
            holder = getattr(holder, part)
        setattr(holder, last, value)
        return lambda: setattr(holder, last, calm)

    return begin


def _unready(player: Player, act: Act) -> Callable[[], None] | None:
    table = player.world.scorers.route(act.service).table
    champion = table.arm(CHAMPION) if table is not None else None
    if champion is None:
        return None
    player.world.scorers.unready.add(champion.bundle)
    return lambda: player.world.scorers.unready.discard(champion.bundle)


def _wall_clock(player: Player, act: Act) -> None:
    player.world.clock.wall_ns += round(act.lasts_s * NS_PER_S)


def _gap(player: Player, act: Act) -> None:
    """Everything stands still for a while, scorers excepted: their leases lapse."""
    player.world.clock.advance(4 * act.lasts_s)


def _partial(player: Player, act: Act) -> None:
    player.world.scorers.partial = 1 + act.number % 2


FAULTS: dict[str, Callable[[Player, Act], Callable[[], None] | None]] = {
    "ask": _ask,
    "kill": _kill,
    "sleep": _sleep,
    "beside": _beside,
    "latch": _latch,
    "database down": _setting("store_down", True, False),
    "database flaps": _setting("weather.fails", 0.2, 0.0),
    "answers lost": _setting("weather.loses", 0.1, 0.0),
    "delivered twice": _setting("weather.repeats", 0.3, 0.0),
    "git down": _setting("git.down", True, False),
    "force-push": _setting("git.rewritten", True, False),
    "supervisor down": _setting("scorers.down", True, False),
    "supervisor restarts": lambda player, act: player.world.scorers.restart(),
    "disk lost": lambda player, act: player.world.scorers.restart(disk=False),
    "worker": lambda player, act: player.world.scorers.replace_worker(act.number % 2),
    "slow work": _setting("delay_s", 3.0, 0.0),
    "slow draining": _setting("scorers.drain_s", 5.0, 0.0),
    "partial": _partial,
    "no traffic": _setting("tps", 0, 200),
    "champion unready": _unready,
    "wall clock": _wall_clock,
    "gap": _gap,
}
