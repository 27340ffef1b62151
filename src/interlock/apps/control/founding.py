"""Which people file and tier policy this installation accepts: the governed part of its trust root.

`trust/root.json` is deployed with the scorers, never by the controller. It is changed here alone, by
a person at the command line, after a reviewed change of the release repository; each acceptance is
an event.
"""

from __future__ import annotations

from interlock.trust.people import People
from interlock.trust.tiers import ROLES, TierPolicy

_TIERS = f"""\
schema: 1
tiers:
  high: {{roles: [{", ".join(ROLES)}]}}
services:
  fraud: high
"""


def default_tiers() -> bytes:
    """The policy of a new repository: three roles for the service `fraud`."""
    return _TIERS.encode()


def check(people: bytes, tiers: bytes) -> tuple[People, TierPolicy]:
    """Both files, understood.

    Raises:
        UsageError: what is wrong in one of them.
    """
    return People.parse(people), TierPolicy.parse(tiers)
