"""A forge's webhook: believed by its signature alone, and good for nothing but a look at the branch."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from tests.world import Inline, MemoryGit

from interlock.apps.control import webhook
from interlock.apps.control.api import create
from interlock.apps.control.branch import Branch
from interlock.base.clock import ManualClock
from interlock.rollout.options import RolloutOptions
from interlock.trust.memory import MemoryEventStore

SECRET = b"0123456789abcdef-forge"
BODY = b'{"ref": "refs/heads/main", "after": "' + b"f" * 40 + b'"}'


def hmac_of(body: bytes, secret: bytes = SECRET) -> str:
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


class CountingGit(MemoryGit):
    """Git that counts how often it is asked for its head."""

    asked = 0

    def head(self) -> str:
        self.asked += 1
        return super().head()


class Forge:
    """A control API with a branch that is polled once an hour."""

    def __init__(self, home: Path, name: str | None = "webhook.secret") -> None:
        self.git, self.clock = CountingGit(), ManualClock()
        self.git.push({"people.json": b"{}"})
        self.branch = Branch(self.git, Inline(), self.clock, RolloutOptions(poll_s=3600.0))
        self.branch.poll()
        hook = webhook.route(home, name, self.branch.hurry)
        self.app = create(MemoryEventStore(), "token", self.clock, hooks=(hook,))

    def post(self, headers: Mapping[str, str], body: bytes = BODY) -> httpx.Response:
        async def inside() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://c") as http:
                return await http.post(webhook.PATH, headers=dict(headers), content=body)

        return asyncio.run(inside())

    def looks(self, seconds: float = 2.0) -> int:
        """How often the branch is looked at while time passes, four turns a second."""
        before = self.git.asked
        for _ in range(round(seconds * 4)):
            self.clock.advance(0.25)
            self.branch.poll()
        return self.git.asked - before


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "webhook.secret"
    path.write_bytes(SECRET + b"\n")
    path.chmod(0o600)
    return tmp_path


GOOD = [
    {"X-Hub-Signature-256": f"sha256={hmac_of(BODY)}"},
    {"X-Gitea-Signature": hmac_of(BODY)},
    {"X-Forgejo-Signature": hmac_of(BODY), "X-Hub-Signature-256": f"sha256={hmac_of(BODY)}"},
    {"X-Gitlab-Token": SECRET.decode()},
]
BAD = [
    {},
    {"X-Hub-Signature-256": f"sha256={hmac_of(BODY, b'another secret')}"},
    {"X-Hub-Signature-256": f"sha256={hmac_of(BODY + b' ')}"},
    {"X-Hub-Signature-256": ""},
    {"X-Hub-Signature": hmac_of(BODY)},
    {"X-Gitlab-Token": "wrong"},
    {"X-Gitlab-Token": ""},
    {"X-Gitea-Signature": hmac_of(BODY), "X-Gitlab-Token": "wrong"},
    {"Authorization": "Bearer token"},
]


@pytest.mark.parametrize("headers", GOOD, ids=["github", "gitea", "forgejo", "gitlab"])
def test_a_genuine_push_is_looked_at_at_once_however_long_the_poll(home: Path, headers: dict[str, str]) -> None:
    forge = Forge(home)
    assert forge.looks() == 0
    assert forge.post(headers).status_code == 202
    assert forge.looks() == 1


@pytest.mark.parametrize("headers", BAD, ids=["none", "key", "body", "empty", "sha1", "token", "blank", "one", "api"])
def test_attack_a_forged_webhook_is_refused_and_changes_nothing(home: Path, headers: dict[str, str]) -> None:
    forge = Forge(home)
    reply = forge.post(headers)
    assert (reply.status_code, reply.json()["error"]["kind"]) == (401, "unauthorised")
    assert SECRET.decode() not in reply.text
    assert forge.looks() == 0


def test_attack_a_replayed_webhook_makes_no_flood_of_looks(home: Path) -> None:
    forge = Forge(home)
    looked = 0
    for _ in range(40):
        assert forge.post(GOOD[0]).status_code == 202
        looked += forge.looks(0.25)
    assert looked <= 11  # ten seconds


def test_what_the_body_says_is_not_even_read(home: Path) -> None:
    forge, body = Forge(home), b"\xff not json"
    assert forge.post({"X-Gitea-Signature": hmac_of(body)}, body).status_code == 202
    assert forge.looks() == 1


def test_attack_a_body_without_end_is_cut_off(home: Path) -> None:
    forge, body = Forge(home), b"x" * (webhook.MAX_BODY + 1)
    assert forge.post({"X-Gitea-Signature": hmac_of(body)}, body).status_code == 413
    assert forge.looks() == 0


def test_a_push_during_a_look_is_looked_at_after_it(home: Path) -> None:
    forge = Forge(home)
    forge.branch.hurry()
    forge.clock.advance(1)
    real, heads = forge.git.head, iter([forge.branch.hurry])

    def head() -> str:
        next(heads, lambda: None)()
        return real()

    forge.git.head = head  # type: ignore[method-assign]
    forge.branch.poll()
    assert forge.looks() == 1


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        (None, 0o600, "takes no webhooks"),
        ("missing", 0o600, "cannot be read"),
        ("../outside", 0o600, "not under the home"),
        ("webhook.secret", 0o644, "others may read"),
        ("short", 0o600, "too short"),
    ],
    ids=["none", "missing", "outside", "readable", "short"],
)
def test_without_a_secret_of_ones_own_every_webhook_is_refused_with_the_remedy(
    home: Path, name: str | None, mode: int, words: str
) -> None:
    (home / "short").write_text("1234")
    (home / "short").chmod(0o600)
    (home / "webhook.secret").chmod(mode)
    reply = Forge(home, name).post(GOOD[0])
    assert reply.status_code == 403
    assert words in reply.json()["error"]["message"]
    assert reply.json()["error"]["remedy"]


def test_a_branch_that_did_not_move_is_not_read_again(home: Path) -> None:
    forge = Forge(home)
    reads: list[str] = []
    real = forge.git.read
    forge.git.read = lambda commit, folder: reads.append(commit) or real(commit, folder)  # type: ignore[method-assign,func-returns-value]
    forge.branch.hurry()
    assert forge.looks() == 1
    assert reads == []
