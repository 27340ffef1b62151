"""`interlock release check`: what the controller would refuse is refused before it is merged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.builders import tiny_bundle

from interlock.apps.control import founding
from interlock.apps.control.inspection import Report, inspect
from interlock.base.canonical import digest_hex
from interlock.registry.bundle import Bundle
from interlock.rollout.propose import Model, manifests, scaffold
from interlock.trust.commits import Commit
from interlock.trust.sshsig import Key, public_line, sign
from interlock.trust.statement import Statement, Subject, statement_bytes
from interlock.trust.tiers import TierPolicy

NOW = 1_800_000_000 * 10**9
KEYS = {name: Key.generate() for name in ("dev", "tess", "rik")}
ROLES = {"tess": "technical", "rik": "risk"}
PEOPLE = json.dumps(
    {
        "schema": 1,
        "people": [
            {
                "id": name,
                "emails": [f"{name}@example.org"],
                "roles": [ROLES[name]] if name in ROLES else [],
                "keys": [public_line(key)],
            }
            for name, key in KEYS.items()
        ],
    }
).encode()
SERVICE = Path("environments/production/services/fraud")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("home") / "bundles", lineage={"trained_by": "dev"})


@pytest.fixture
def repo(tmp_path: Path, bundle: Bundle) -> Path:
    """A working copy that asks for a release."""
    digests = bundle.manifest["feature_set_digest"], bundle.threshold_set
    model = Model("fraud", bundle.manifest["version"], bundle.digest, *digests)
    files = scaffold(PEOPLE, founding.default_tiers(), "r")
    for name, data in (files | {f"{SERVICE}/{name}": data for name, data in manifests(model).items()}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def check(repo: Path, **how: object) -> Report:
    problems, (report,) = inspect(repo, repo / "no-bundles", NOW, **how)  # type: ignore[arg-type]
    assert problems == []
    return report


def test_a_good_proposal_has_no_problem_and_lacks_only_signatures(repo: Path) -> None:
    report = check(repo)
    assert (report.problems, report.approved, report.bundle) == ([], {}, "not on this machine")
    assert report.missing == ["technical", "risk", "compliance"]


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def _link(folder: Path) -> None:
    (folder / "release.yaml").rename(folder.parent / "real")
    (folder / "release.yaml").symlink_to("../real")


def _submodule(folder: Path) -> None:
    (folder / "module" / ".git").mkdir(parents=True)


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "unknown_key": (edit("rollout.yaml", "strategy:", "stratergy:"), "rollout.yaml:6"),
    "duplicate_key": (edit("rollout.yaml", "  budget:", "  budget: 0.02\n  budget:"), "duplicate key budget"),
    "anchor": (edit("rollout.yaml", "canary", "&a canary"), "anchors, aliases and tags"),
    "look_alike": (edit("release.yaml", "bundle:", "b\u0443ndle:"), "unusual characters"),
    "invisible": (edit("release.yaml", "Release", "Release\u200b"), "invisible character"),
    "traversal": (edit("release.yaml", "sha256:", "sha256:../../"), "not a sha256 digest"),
    "another_service": (edit("release.yaml", "name: fraud", "name: fraud-fr"), "metadata.name is not fraud"),
    "routing": (edit("release.yaml", "shadows: []", "routing: {field: country, services: {FR: no}}"), "spec.routing"),
    "unknown_file": (lambda folder: (folder / "notes.txt").write_text("x") and None, "notes.txt does not belong"),
    "hidden_file": (lambda folder: (folder / ".x").write_text("x") and None, "unusual characters"),
    "executable": (lambda folder: (folder / "release.yaml").chmod(0o755), "release.yaml is executable"),
    "missing": (lambda folder: (folder / "rollout.yaml").unlink(), "no rollout.yaml"),
    "link": (_link, "release.yaml is no plain file"),
    "submodule": (_submodule, "module is no plain file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_the_controller_refuses_is_a_problem(repo: Path, name: str) -> None:
    change, words = HOSTILE[name]
    change(repo / SERVICE)
    assert words in "; ".join(check(repo).problems)


def test_one_bad_service_leaves_the_others_good(repo: Path) -> None:
    other = repo / SERVICE.parent / "fraud-fr"
    other.mkdir()
    (other / "release.yaml").write_text("kind: Nothing\n")
    reports = {report.service: report for report in inspect(repo, repo, NOW)[1]}
    assert reports["fraud"].problems == []
    assert reports["fraud-fr"].problems


@pytest.mark.parametrize(
    ("path", "data", "words"),
    [
        ("people.json", b"{", "people.json is no JSON"),
        ("policy/tiers.yaml", b"schema: 2\n", "policy/tiers.yaml"),
        ("policy/freeze.yaml", b"kind: Nothing\n", "policy/freeze.yaml:1"),
    ],
    ids=["people", "tiers", "freeze"],
)
def test_a_governed_file_that_cannot_be_read_is_the_repositorys_problem(
    repo: Path, path: str, data: bytes, words: str
) -> None:
    (repo / path).write_bytes(data)
    assert words in "; ".join(inspect(repo, repo, NOW)[0])


def test_a_governed_file_that_is_a_link_is_none(repo: Path) -> None:
    (repo / "people.json").rename(repo / "elsewhere.json")
    (repo / "people.json").symlink_to("elsewhere.json")
    assert "people.json is missing, or no plain file" in inspect(repo, repo, NOW)[0][0]


def test_a_service_without_a_tier_or_outside_it_is_refused(repo: Path) -> None:
    tiers = founding.default_tiers()
    (repo / "policy/tiers.yaml").write_bytes(tiers.replace(b"fraud:", b"credit:"))
    assert "has no risk tier" in check(repo).problems[0]
    (repo / "policy/tiers.yaml").write_bytes(tiers.replace(b"commits: signed", b"advance: [evidence]"))
    edit("rollout.yaml", "  strategy:", "  advance: timeline\n  strategy:")(repo / SERVICE)
    assert "does not allow a rollout to advance by timeline" in check(repo).problems[0]


def test_a_freeze_is_told_and_refuses_nothing(repo: Path) -> None:
    window = '[{from: "2027-01-01T00:00:00Z", until: "2027-02-01T00:00:00Z", reason: year end}]'
    path = repo / "policy/freeze.yaml"
    path.write_text(path.read_text().replace("[]", window))
    report = check(repo)
    assert (report.problems, report.frozen) == ([], "year end, until 2027-02-01T00:00:00Z")


def test_a_bundle_that_is_here_is_compared(
    repo: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bundles = tmp_path_factory.mktemp("other") / "bundles"
    tiny_bundle(bundles, lineage={"trained_by": "dev"})
    assert inspect(repo, bundles, NOW)[1][0].bundle == "compared"
    edit("release.yaml", bundle.manifest["feature_set_digest"], "sha256:" + "0" * 64)(repo / SERVICE)
    assert "spec.featureSet is not what the bundle says" in inspect(repo, bundles, NOW)[1][0].problems[0]


def approve(repo: Path, bundle: Bundle, who: str, signer: str = "", **changes: str) -> None:
    report = check(repo)
    what = {
        "environment": "production",
        "service": "fraud",
        "version": bundle.manifest["version"],
        "folder": report.folder,
        "bundle": bundle.digest,
        "dataset": "blake2b-128:" + "0" * 32,
        "card": bundle.card_digest,
        "policy": TierPolicy.parse(founding.default_tiers()).digest,
        "feature_set": bundle.manifest["feature_set_digest"],
        "threshold_set": bundle.threshold_set,
    }
    decision = changes.pop("decision", "approve")
    subject = Subject(**{**what, **changes}, authors=("dev",))
    data = statement_bytes(Statement(subject, who, ROLES[who], decision, "T-1", "looked", NOW + 10**15))
    place = repo / "approvals" / digest_hex(report.folder)
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{who}.{ROLES[who]}.json").write_bytes(data)
    (place / f"{who}.{ROLES[who]}.sig").write_text(sign(data, KEYS[signer or who]))


def test_approvals_are_counted_and_what_does_not_count_is_told(repo: Path, bundle: Bundle) -> None:
    approve(repo, bundle, "tess")
    approve(repo, bundle, "rik", signer="dev")
    report = check(repo)
    assert (report.approved, report.missing) == ({"technical": "tess"}, ["risk", "compliance"])
    assert report.problems == []
    assert "by a key that is not trusted" in report.notes[0]


def test_an_approval_of_something_else_or_a_refusal_does_not_count(repo: Path, bundle: Bundle) -> None:
    approve(repo, bundle, "tess", version="9.9.9")
    approve(repo, bundle, "rik", decision="refuse")
    report = check(repo)
    assert report.approved == {}
    assert sorted(note.partition(": ")[2] for note in report.notes) == [
        "rik refuses: looked",
        "the statement is about another version",
    ]


def test_commits_since_a_base_must_prove_their_authors(repo: Path) -> None:
    signature = sign(b"payload", KEYS["dev"], "git")
    signed = Commit("c" * 40, "dev@example.org", "dev@example.org", b"payload", signature)
    assert check(repo, wrote=lambda path: (signed,)).commits == "1 signed"
    unsigned = Commit("c" * 40, "dev@example.org")
    assert "is not signed" in check(repo, wrote=lambda path: (unsigned,)).problems[0]
    stranger = Commit("c" * 40, "eve@example.org")
    assert "not in people.json" in check(repo, wrote=lambda path: (stranger,)).problems[0]
