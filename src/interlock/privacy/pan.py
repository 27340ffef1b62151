"""Card numbers in text: where they stand, and what a declared one must look like.

A *hit* of the scan is a whole run of 12 to 19 digits, with at most one space or dash between
two of them, not adjacent to letters or further digits, that passes the Luhn check (ISO/IEC
7812-1 annex B). In a longer separated run ("3 4111…"), an unbroken group of 12 to 19 digits is
a run of its own. Digits are Unicode decimal digits, since a reader sees the same number.

UUIDs never match, nor do instants: epoch milli-, micro- and nanoseconds of 2017 to 2033 and
compact date-times have lengths and first digits that no issuer uses together.

MUST: no function here puts a number, or part of it, into an error message.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from interlock.base.errors import UsageError

MIN_DIGITS = 12
MAX_DIGITS = 19

SENSITIVE = frozenset(
    {
        "cav",
        "cav2",
        "csc",
        "cvc",
        "cvc2",
        "cvn",
        "cvn2",
        "cvv",
        "cvv2",
        "icvv",
        "magneticstripe",
        "magstripe",
        "pin",
        "pinblock",
        "pinnumber",
        "securitycode",
        "track",
        "track1",
        "track2",
        "track3",
        "trackdata",
    }
)
"""Names of sensitive authentication data (PCI DSS 3.3.1), letters and digits only: accepted nowhere."""

# Space and dash as people and word processors write them.
_SEPARATOR = "[ \u00a0\u2007\u202f\u2010-\u2013\u2212-]"
_DIGITS = re.compile(r"\d+")
# Always matches the longest run and never backtracks: the scan is linear in the text.
_RUN = re.compile(rf"\d+(?:{_SEPARATOR}\d+)*")
_UUID = re.compile(
    r"(?<![0-9A-Za-z])[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])"
)
_UUID_SIZE = 36
_INSTANT = re.compile(
    r"1[5-9]\d{11}(?:\d{3}(?:\d{3})?)?"
    r"|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d(?:\d{3})?)?"
)
_DECLARED = re.compile(r"[0-9]+(?:[ -][0-9]+)*")
# Sums over translated bytes run in C; digit by digit they cost more than the rest of parsing a request.
_VALUES = bytes.maketrans(b"0123456789", bytes(range(10)))
_DOUBLED = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))


def find(text: str) -> list[tuple[int, int]]:
    """The card numbers in `text`, as half-open ranges of characters, in order."""
    if len(text) < MIN_DIGITS or (len(text) == _UUID_SIZE and _UUID.fullmatch(text)):
        return []
    if text.isascii():  # Most text has too few digits, which is known sooner than where they stand.
        plain = text.encode()
        if len(plain) - len(plain.translate(None, b"0123456789")) < MIN_DIGITS:
            return []
    if "-" in text:
        text = _UUID.sub(_blank, text)
    return [span for run in _RUN.finditer(text) if len(run.group()) >= MIN_DIGITS for span in _hits(text, run)]


def parse(text: str) -> str:
    """The digits of a declared card number.

    Args:
        text: 12 to 19 ASCII digits, single spaces or dashes between them.

    Raises:
        UsageError: it is not a card number; the message does not repeat it.
    """
    digits = text
    if not (text.isascii() and text.isdigit()):
        digits = text.replace(" ", "").replace("-", "") if _DECLARED.fullmatch(text) else ""
    if not MIN_DIGITS <= len(digits) <= MAX_DIGITS:
        raise UsageError("pan is not a card number", f"send {MIN_DIGITS} to {MAX_DIGITS} digits")
    if not luhn(digits):
        raise UsageError("pan fails its check digit", "send the number as it stands on the card")
    return digits


def luhn(digits: str) -> bool:
    """Whether ASCII `digits` end in their Luhn check digit."""
    backwards = digits.encode()[::-1]
    return (sum(backwards[::2].translate(_VALUES)) + sum(backwards[1::2].translate(_DOUBLED))) % 10 == 0


def refuse_sensitive(names: Iterable[str]) -> None:
    """Refuse field names that announce sensitive authentication data.

    Raises:
        UsageError: naming the first such field (a name, never its value).
    """
    for name in names:
        plain = "".join(filter(str.isalnum, name)).lower()
        if plain in SENSITIVE or plain.removeprefix("card") in SENSITIVE:
            raise UsageError("sensitive authentication data is never accepted", "leave card codes, PINs and tracks out")


def _blank(match: re.Match[str]) -> str:
    # Neither digit nor letter: what stands next to a UUID is judged by itself.
    return "\n" * len(match.group())


def _hits(text: str, run: re.Match[str]) -> Iterator[tuple[int, int]]:
    if _stands_alone(text, *run.span()) and _is_card(run.group()):
        yield run.span()
        return
    for group in _DIGITS.finditer(text, *run.span()):
        start, end = group.span()
        if MIN_DIGITS <= end - start <= MAX_DIGITS and _stands_alone(text, start, end) and _is_card(group.group()):
            yield start, end


def _stands_alone(text: str, start: int, end: int) -> bool:
    return not (start and text[start - 1].isalpha()) and not (end < len(text) and text[end].isalpha())


def _is_card(run: str) -> bool:
    if run.isascii():
        digits = run.replace("-", "").replace(" ", "")
    else:
        digits = "".join(str(unicodedata.decimal(character)) for character in run if character.isdecimal())
    if not MIN_DIGITS <= len(digits) <= MAX_DIGITS:
        return False
    return luhn(digits) and not _INSTANT.fullmatch(digits)
