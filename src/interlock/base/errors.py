"""The exception tree, grouped by what the caller should do next.

InterlockError (never raised itself)
 ├─ UsageError        the input is malformed: correct it and call again
 ├─ RefusedError      a rule said no: get what it asks for (an approval, a ticket) and call again
 ├─ IntegrityError    bytes are not what they claim to be: stop, keep the evidence, restore
 └─ UnreachableError  a dependency did not answer: wait or repair it, then call again

Every error carries a remedy: one sentence that tells a person what to do. Messages MUST NOT
contain a value that a caller sent, unless it has been checked to be harmless.
"""

from __future__ import annotations


class InterlockError(Exception):
    """Base of everything that Interlock raises on purpose."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} — {self.remedy}"


class UsageError(InterlockError):
    """The input is malformed: correct it and call again."""


class RefusedError(InterlockError):
    """A rule said no: get what it asks for and call again."""


class IntegrityError(InterlockError):
    """Bytes are not what they claim to be: stop and keep the evidence."""


class UnreachableError(InterlockError):
    """A dependency did not answer: wait or repair it, then call again."""
