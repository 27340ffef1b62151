"""The logs of the environments before this one, read from copied or mounted folders.

Contract. Nothing is believed that the folder's checkpoint does not cover under the key that was
*configured*: every entry is hashed, and all together must give the signed root; so an entry that
was left out, added or changed shows. Entries are read once: a later checkpoint must extend what was
read, or it is refused. A copy that is not complete (a missing tile, a bundle cut short) cannot be
judged and is tried again; a signature or a root that does not hold is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from interlock.base.errors import IntegrityError, RefusedError, UnreachableError, UsageError
from interlock.rollout import environments
from interlock.rollout.environments import KINDS, NotYetError
from interlock.trust.event import Event, parse_entry
from interlock.trust.log import CHECKPOINT, LogReader, read_note
from interlock.trust.merkle import Tree, leaf_hash
from interlock.trust.note import Verifier, open_checkpoint

_MARKS = tuple(kind.encode() for kind in KINDS)


class EarlierLog:
    """One environment's log; remembers what it has verified."""

    def __init__(self, environment: str, folder: Path, vkey: str) -> None:
        self._environment = environment
        self._folder = folder
        self._verifier = Verifier.parse(vkey)
        self._note = ""
        self._tree = Tree()
        self._events: list[Event] = []

    def events(self) -> list[Event]:
        """The events of `KINDS` under the newest checkpoint, in log order.

        Raises:
            UnreachableError: the copy is missing or not complete.
            IntegrityError: it is another log, or not what its checkpoint was signed over.
        """
        if not (self._folder / CHECKPOINT).is_file():
            raise UnreachableError(f"the log of {self._environment} cannot be read", "mount it, or copy it anew")
        note = read_note(self._folder)
        if note == self._note:
            return self._events
        checkpoint = open_checkpoint(note, self._verifier)
        if checkpoint.size < self._tree.size:
            raise IntegrityError(f"the log of {self._environment} became shorter", "keep both; ask who put it back")
        tree, found = self._tree.copy(), list(self._events)
        try:
            for entry in LogReader(self._folder, checkpoint).entries(tree.size):
                if any(mark in entry for mark in _MARKS):
                    found.append(parse_entry(entry, tree.size))
                tree.add(leaf_hash(entry))
        except IntegrityError as error:
            raise UnreachableError(f"the copied log of {self._environment} is not complete", "copy it anew") from error
        if tree.root() != checkpoint.root:
            raise IntegrityError(
                f"the log of {self._environment} does not give its checkpoint's root",
                "run `interlock audit verify`",
            )
        self._note, self._tree, self._events = note, tree, found
        return found


class EarlierLogs:
    """Whether releases have settled in the environments before this one.

    Args:
        environment: this one.
        folders: log folders by environment.
        vkeys: their verifier keys by environment.

    Raises:
        UsageError: a folder without a key, or a malformed key.
    """

    def __init__(self, environment: str, folders: Mapping[str, str], vkeys: Mapping[str, str]) -> None:
        if set(folders) != set(vkeys):
            names = ", ".join(sorted(set(folders) ^ set(vkeys)))
            raise UsageError(f"a log and a key belong together: {names}", "set rollout.before_logs and before_keys")
        self._environment = environment
        self._one = threading.Lock()
        """Checks of several services run beside each other; a log is read by one of them."""
        self._logs = {name: EarlierLog(name, Path(folder), vkeys[name]) for name, folder in folders.items()}

    def require(self, policy: str | None, service: str, bundle: str, now_ns: int) -> None:
        """Raise unless the release has settled where the order wants it to.

        Which logs are consulted is fixed where this controller runs, not in the repository: an order that no
        longer names them is refused, not followed.

        Args:
            policy: text of `policy/environments.yaml`; None: there is none.
            service, bundle: of the release.
            now_ns: wall time.

        Raises:
            RefusedError: it was taken back there, or order and settings do not agree.
            NotYetError: it has not settled there yet.
            UnreachableError, IntegrityError: as `EarlierLog.events`.
            YamlError: the order is malformed.
        """
        order = environments.Order(((self._environment,),)) if policy is None else environments.parse(policy)
        before = order.before(self._environment)
        if set(before) != set(self._logs):
            raise RefusedError(
                f"the order has {_named(before)} before {self._environment}, the settings have {_named(self._logs)}",
                f"correct {environments.SOURCE}, or rollout.before_logs and rollout.before_keys",
            )
        waiting: NotYetError | None = None
        for name in before:
            try:
                with self._one:
                    events = self._logs[name].events()
                environments.settled_before(events, name, service, bundle, order.wait_s, now_ns)
            except NotYetError as error:
                waiting = error  # another environment may have taken it back
        if waiting is not None:
            raise waiting


def _named(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
