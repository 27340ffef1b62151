"""Which people file and tier policy this installation accepts: the governed part of its trust root.

`trust/root.json` is deployed with the scorers, never by the controller. It is changed here alone, by
a person at the command line, after a reviewed change of the release repository; each acceptance is
an event.
"""

from __future__ import annotations

from interlock.base.files import write_atomic
from interlock.settings import Settings
from interlock.trust.admission import TrustRoot
from interlock.trust.note import Verifier
from interlock.trust.people import People
from interlock.trust.tiers import ROLES, TierPolicy

_TIERS = f"""\
schema: 1
tiers:
  high: {{roles: [{", ".join(ROLES)}], commits: signed}}
services:
  fraud: high
"""


def default_tiers() -> bytes:
    """The policy of a new repository: three roles and signed commits for the service `fraud`."""
    return _TIERS.encode()


def check(people: bytes, tiers: bytes) -> tuple[People, TierPolicy]:
    """Both files, understood.

    Raises:
        UsageError: what is wrong in one of them.
    """
    return People.parse(people), TierPolicy.parse(tiers)


def accept(settings: Settings, verifier: Verifier, people: bytes, tiers: bytes) -> TrustRoot:
    """Accept both files beside those accepted before; durable on return.

    Earlier ones stay accepted: admissions that were judged under them must still load.

    Raises:
        UsageError: a file is malformed, or the present root is.
    """
    known_people, known_tiers = check(people, tiers)
    path = settings.places.trust / "root.json"
    before = TrustRoot.parse(path.read_bytes()) if path.exists() else TrustRoot(verifier, (), frozenset(), frozenset())
    root = TrustRoot(
        verifier,
        before.witnesses,
        before.people | {known_people.digest},
        before.tiers | {known_tiers.digest},
        settings.rollout.environment,
    )
    write_atomic(path, root.to_bytes())
    return root
