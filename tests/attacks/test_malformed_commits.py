"""Attack 15, whoever may push: whatever bytes a commit holds, the controller refuses them and goes on working."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.attacks.company import ROOT, Company

from interlock.apps.control import founding
from interlock.base.canonical import digest_hex

pytestmark = pytest.mark.process  # on a company of its own

DEEP = b"[" * 100_000
NO_TEXT = b"\xff\xfe"
TIERS = founding.default_tiers()
HOSTILE: list[tuple[str, bytes]] = [
    (f"{ROOT}/release.yaml", NO_TEXT),
    (f"{ROOT}/release.yaml", DEEP),
    (f"{ROOT}/rollout.yaml", NO_TEXT),
    (f"{ROOT}/rollout.yaml", DEEP),
    (f"{ROOT}/inferenceservice.yaml", NO_TEXT),
    (f"{ROOT}/more.bin", NO_TEXT),
    ("people.json", NO_TEXT),
    ("people.json", DEEP),
    ("people.json", b'{"schema":1,"people":[{"id":[],"emails":[{}],"roles":[null],"keys":[1]}]}'),
    (
        "people.json",
        '{"schema":1,"people":[{"id":"a","emails":[],"roles":[],"keys":["ssh-ed25519 AA\u00e9"]}]}'.encode(),
    ),
    ("policy/tiers.yaml", NO_TEXT),
    ("policy/tiers.yaml", DEEP),
    ("policy/tiers.yaml", TIERS.replace(b"[technical,", b"[{technical: 1},")),
    ("policy/tiers.yaml", TIERS.replace(b"fraud: high", b"fraud: [high]")),
    ("policy/freeze.yaml", NO_TEXT),
    ("policy/freeze.yaml", DEEP),
    ("APPROVALS/mallory.risk.json", DEEP),
    ("APPROVALS/mallory.risk.json", NO_TEXT),
    ("APPROVALS/rik.risk.sig", NO_TEXT),
    ("APPROVALS/rik.risk.sig", b"-----BEGIN SSH SIGNATURE-----\n\xc3\xa9\n-----END SSH SIGNATURE-----\n"),
]


def test_attack_15_no_commit_stops_the_controller(tmp_path: Path) -> None:
    company = Company(tmp_path)
    admitted = []
    for number, (path, data) in enumerate(HOSTILE):
        wish = company.sign(company.propose(company.bundle(f"2.{number}.0")))
        place = path.replace("APPROVALS", f"approvals/{digest_hex(wish.folder)}")
        before = company.git.tree(wish.commit).get(place)
        refusals = len(company.logged("release.refused"))
        files = {place: data, place.replace(".json", ".sig"): b"x"} if "mallory" in place else {place: data}
        company.push(files)
        company.run()
        if len(company.logged("release.refused")) == refusals:
            admitted.append((path, data[:2]))
        company.git.push({each: None for each in files} | {place: before}, "ada@example.org")
    # A statement by nobody, beside a quorum, does no harm; everything else is refused.
    assert admitted == [(path, data[:2]) for path, data in HOSTILE if "mallory" in path]
