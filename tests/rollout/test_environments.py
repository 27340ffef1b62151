"""A release enters an environment after it has settled in the one before, and that environment's log proves it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from interlock import settings
from interlock.apps.control.environments import EarlierLogs
from interlock.base import strict_yaml
from interlock.base.clock import NS_PER_S
from interlock.base.errors import IntegrityError, RefusedError, UnreachableError, UsageError
from interlock.base.files import write_atomic
from interlock.base.strict_yaml import YamlError
from interlock.rollout import freeze
from interlock.rollout.environments import NotYetError, Order, parse
from interlock.trust.event import NewEvent, entry_bytes, stored
from interlock.trust.log import LogWriter, tile_path
from interlock.trust.note import Signer

HEAD = "apiVersion: interlock.dev/v1alpha1\nkind: EnvironmentOrder\nmetadata: {name: all}\nspec:\n"
POLICY = HEAD + "  order: [staging, production]\n  wait: 10m\n"
BUNDLE, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
FOLDER = "sha256:" + "f" * 64
NOW = 2_000 * NS_PER_S
BODY = {"service": "fraud", "bundle": BUNDLE, "folder": FOLDER, "environment": "staging"}


def write(path: Path, data: bytes) -> None:
    """Not durable: these tests cut no power."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


class Staging:
    """The log of another installation."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey | None = None) -> None:
        self.folder = folder
        self.signer = Signer("interlock/staging", key or Ed25519PrivateKey.generate())
        self.log = LogWriter(folder, self.signer, write)

    def add(self, kind: str, at_s: int, **changed: object) -> None:
        event = NewEvent(
            time_ns=at_s * NS_PER_S,
            type=kind,
            actor="controller",
            origin="controller",
            object="service/fraud",
            outcome="success",
            body={**BODY, **changed},
        )
        self.log.append([entry_bytes(stored(event, self.log.size + 1))])

    def settle(self, at_s: int = 1_000, **changed: object) -> Staging:
        self.add("release.admitted", at_s - 1, **changed)
        self.add("rollout.settled", at_s, **changed)
        return self

    def logs(self) -> EarlierLogs:
        return EarlierLogs("production", {"staging": str(self.folder)}, {"staging": self.signer.verifier.to_text()})


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging(tmp_path / "staging")


def require(logs: EarlierLogs, policy: str | None = POLICY, now_ns: int = NOW) -> None:
    logs.require(policy, "fraud", BUNDLE, now_ns)


def test_what_has_settled_in_staging_may_go_on(staging: Staging) -> None:
    require(staging.settle().logs())


def test_it_must_have_been_settled_for_the_wait(staging: Staging) -> None:
    logs = staging.settle().logs()
    with pytest.raises(NotYetError, match="less than 600 s ago"):
        require(logs, now_ns=1_599 * NS_PER_S)
    require(logs, now_ns=1_600 * NS_PER_S)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"bundle": OTHER}, id="another-bundle"),
        pytest.param({"service": "loans"}, id="another-service"),
        pytest.param({"environment": "lab"}, id="another-environment"),
    ],
)
def test_what_settled_otherwise_is_no_proof(staging: Staging, changed: dict[str, object]) -> None:
    with pytest.raises(NotYetError, match="not settled in staging"):
        require(staging.settle(**changed).logs())


def test_settling_what_was_not_admitted_is_no_proof(staging: Staging) -> None:
    staging.add("rollout.settled", 1_000)
    with pytest.raises(NotYetError):
        require(staging.logs())


def test_it_waits_while_staging_is_under_way_and_reads_on_by_itself(staging: Staging) -> None:
    logs = staging.logs()
    staging.add("release.admitted", 900)
    with pytest.raises(NotYetError):
        require(logs)
    staging.add("rollout.settled", 1_000)
    require(logs)


@pytest.mark.parametrize("kind", ["release.quarantined", "rollout.rolled_back", "rollout.retreated"])
def test_what_was_taken_back_later_is_refused_until_it_settles_again(staging: Staging, kind: str) -> None:
    staging.settle().add(kind, 1_100, bundle=None, reason="missed fraud")
    with pytest.raises(RefusedError, match="taken back in staging: missed fraud"):
        require(staging.logs())
    require(staging.settle(1_200).logs())


def test_a_later_candidate_that_was_rolled_back_changes_nothing(staging: Staging) -> None:
    staging.settle().add("rollout.rolled_back", 1_100, bundle=OTHER, folder="sha256:" + "0" * 64)
    require(staging.logs())


def test_a_log_of_another_key_is_refused(staging: Staging, tmp_path: Path) -> None:
    forged = Staging(tmp_path / "forged").settle()
    real = staging.signer.verifier.to_text()
    with pytest.raises(IntegrityError):
        require(EarlierLogs("production", {"staging": str(forged.folder)}, {"staging": real}))


def test_a_forged_entry_is_refused(staging: Staging) -> None:
    staging.settle(bundle=OTHER)
    path = staging.folder / tile_path("entries", 0, 2)
    real, logs = path.read_bytes(), staging.logs()
    path.write_bytes(real.replace(OTHER.encode(), BUNDLE.encode()))
    with pytest.raises(IntegrityError, match="root"):
        require(logs)
    path.write_bytes(real)
    with pytest.raises(NotYetError):
        require(logs)


def test_an_entry_that_is_kept_back_shows(staging: Staging) -> None:
    """The quarantine is hidden behind an innocent entry of the same length."""
    staging.settle().add("release.quarantined", 1_100)
    path = staging.folder / tile_path("entries", 0, 3)
    path.write_bytes(path.read_bytes().replace(b"release.quarantined", b"release.superseded_"))
    with pytest.raises(IntegrityError, match="root"):
        require(staging.logs())


def test_an_older_log_put_back_is_refused(staging: Staging) -> None:
    logs = staging.settle().logs()
    old = (staging.folder / "checkpoint").read_bytes()
    staging.add("release.quarantined", 1_100)
    with pytest.raises(RefusedError):
        require(logs)
    write_atomic(staging.folder / "checkpoint", old)
    with pytest.raises(IntegrityError, match="shorter"):
        require(logs)


def test_another_history_of_the_same_key_is_refused(staging: Staging, tmp_path: Path) -> None:
    logs = staging.settle().logs()
    require(logs)
    other = Staging(tmp_path / "other", staging.signer.key)
    other.settle(bundle=OTHER)
    other.settle()
    for path in other.folder.rglob("*"):
        if path.is_file() and path.name != ".lock":
            write(staging.folder / path.relative_to(other.folder), path.read_bytes())
    with pytest.raises(IntegrityError, match="root"):
        require(logs)


@pytest.mark.parametrize("lost", ["checkpoint", tile_path("entries", 0, 2)])
def test_a_copy_that_is_not_complete_is_tried_again(staging: Staging, lost: str) -> None:
    logs = staging.settle().logs()
    path = staging.folder / lost
    data = path.read_bytes()
    path.unlink()
    with pytest.raises(UnreachableError):
        require(logs)
    path.write_bytes(data)
    require(logs)


def test_the_repository_cannot_drop_an_environment_that_the_settings_name(staging: Staging) -> None:
    logs = staging.settle().logs()
    for policy in (None, HEAD + "  order: [production]\n", HEAD + "  order: [lab, production]\n"):
        with pytest.raises(RefusedError, match="the settings have staging"):
            require(logs, policy)


def test_an_order_whose_log_is_not_configured_is_refused() -> None:
    with pytest.raises(RefusedError, match="the settings have none"):
        require(EarlierLogs("production", {}, {}))
    with pytest.raises(UsageError, match="belong together"):
        EarlierLogs("production", {"staging": "log"}, {})


def test_without_an_order_there_is_one_environment() -> None:
    require(EarlierLogs("production", {}, {}), None)


def test_every_environment_of_the_wave_before_must_have_settled(tmp_path: Path) -> None:
    order = parse(HEAD + "  waves: [[staging], [cell-a, cell-b], [cell-c]]\n  wait: 1m\n")
    assert order == Order((("staging",), ("cell-a", "cell-b"), ("cell-c",)), 60.0)
    assert [order.before(name) for name in ("staging", "cell-b", "cell-c")] == [(), ("staging",), ("cell-a", "cell-b")]
    with pytest.raises(RefusedError, match="does not list lab"):
        order.before("lab")
    cells = {name: Staging(tmp_path / name) for name in ("cell-a", "cell-b")}
    folders = {name: str(each.folder) for name, each in cells.items()}
    logs = EarlierLogs("cell-c", folders, {name: each.signer.verifier.to_text() for name, each in cells.items()})
    text = HEAD + "  waves: [[cell-a, cell-b], [cell-c]]\n"
    cells["cell-a"].settle(environment="cell-a")
    with pytest.raises(NotYetError, match="cell-b"):
        require(logs, text)
    cells["cell-b"].settle(environment="cell-b")
    require(logs, text)


def test_what_one_environment_took_back_waits_for_no_other(tmp_path: Path) -> None:
    cells = {name: Staging(tmp_path / name) for name in ("cell-a", "cell-b")}
    folders = {name: str(each.folder) for name, each in cells.items()}
    logs = EarlierLogs("cell-c", folders, {name: each.signer.verifier.to_text() for name, each in cells.items()})
    cells["cell-b"].settle(environment="cell-b").add("release.quarantined", 1_100)
    with pytest.raises(RefusedError, match="taken back in cell-b"):
        require(logs, HEAD + "  waves: [[cell-a, cell-b], [cell-c]]\n")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        pytest.param("  wait: 1m\n", "two ways", id="neither"),
        pytest.param("  order: [a]\n  waves: [[a]]\n", "two ways", id="both"),
        pytest.param("  order: []\n", "not a list", id="empty"),
        pytest.param("  order: [a, a]\n", "named twice", id="twice"),
        pytest.param("  waves: [a]\n", "list of names", id="flat-waves"),
        pytest.param("  order: [[a]]\n", "list of names", id="nested-order"),
        pytest.param("  order: [a]\n  wait: soon\n", "not a duration", id="wait"),
    ],
)
def test_a_malformed_order_is_refused(spec: str, says: str) -> None:
    with pytest.raises(YamlError, match=says):
        parse(HEAD + spec)


def test_logs_and_keys_are_settings(tmp_path: Path) -> None:
    given = {"INTERLOCK_ROLLOUT_BEFORE_LOGS": "staging=/mnt/log, cell-a=/mnt/a=b"}
    assert settings.load(tmp_path, given).rollout.before_logs == {"staging": "/mnt/log", "cell-a": "/mnt/a=b"}
    settings.write(tmp_path, {"rollout": {"before_keys": {"staging": "a+b+c="}}})
    assert settings.load(tmp_path, {}).rollout.before_keys == {"staging": "a+b+c="}


def test_the_examples_of_the_guide_are_read_as_they_stand() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "environments.md").read_text(encoding="utf-8")
    order, logs, calendar = (block.partition("```")[0] for block in guide.split("```yaml\n")[1:])
    assert parse(order).before("cell-b") == ("cell-a",)
    assert set(strict_yaml.load(logs, "settings.yaml")["rollout"]) == {"environment", "before_logs", "before_keys"}
    head = "apiVersion: interlock.dev/v1alpha1\nkind: FreezeCalendar\nmetadata: {name: all}\n"
    assert [each.repeat.every if each.repeat else "once" for each in freeze.parse(head + calendar)] == [
        "once",
        "weekly",
        "daily",
        "monthly",
    ]
