"""What the demo shows while it runs: the story writes here, the view reads, from two threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from interlock.base.clock import NS_PER_S, Clock

State = Literal["running", "done", "failed"]


@dataclass
class Scene:
    """A step of the story."""

    title: str
    began_ns: int
    ended_ns: int | None = None
    state: State = "running"
    note: str = ""

    def seconds(self, now_ns: int) -> float:
        """How long it has taken."""
        return ((self.ended_ns or now_ns) - self.began_ns) / NS_PER_S


@dataclass
class Board:
    """The story so far."""

    clock: Clock
    scenes: list[Scene] = field(default_factory=list)
    commands: deque[str] = field(default_factory=lambda: deque(maxlen=200))
    rollouts: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    training: str = ""
    progress: dict[str, Any] | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    began_ns: int = 0

    def __post_init__(self) -> None:
        """The story begins now."""
        self.began_ns = self.clock.monotonic_ns()

    @property
    def seconds(self) -> float:
        """Since the story began."""
        return (self.clock.monotonic_ns() - self.began_ns) / NS_PER_S

    def tell(self, command: str) -> None:
        """A command is about to run."""
        with self.lock:
            self.commands.append(command)

    @contextmanager
    def scene(self, title: str) -> Iterator[Scene]:
        """A step; it failed when its block raises."""
        scene = Scene(title, self.clock.monotonic_ns())
        with self.lock:
            self.scenes.append(scene)
        try:
            yield scene
        except BaseException:
            scene.state = "failed"
            raise
        else:
            scene.state = "done"
        finally:
            scene.ended_ns = self.clock.monotonic_ns()
