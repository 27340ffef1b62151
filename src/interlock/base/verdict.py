"""The four verdicts, worst first, the same everywhere: fail, error, inconclusive, pass.

They never merge: an *error* (the judge broke) is not a *fail* (the judged thing is bad), and
*inconclusive* (not enough evidence) is not a *pass*.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class Verdict(IntEnum):
    """A judgement; a smaller value is worse."""

    FAIL = 0
    ERROR = 1
    INCONCLUSIVE = 2
    PASS = 3

    @property
    def word(self) -> str:
        """The lower-case word that files and replies hold."""
        return self.name.lower()


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of the verdicts.

    Raises:
        ValueError: there is none; an empty list of rules is an error, never a pass.
    """
    found = list(verdicts)
    if not found:
        raise ValueError("no verdict given: an empty list of rules judges nothing")
    return min(found)
