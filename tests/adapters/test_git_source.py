"""The Git source against real repositories."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from interlock.adapters.git.source import GitSource, Identity
from interlock.base.errors import RefusedError, UnreachableError
from interlock.rollout.ports import Inverse

pytestmark = pytest.mark.process  # every test starts git many times

FOLDER = "environments/production/services/fraud"


def git(where: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(where), "-c", "user.name=A", "-c", "user.email=anna@example.org", *arguments],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    folder = tmp_path / "remote.git"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(folder))
    return folder


@pytest.fixture
def work(tmp_path: Path, remote: Path) -> Path:
    folder = tmp_path / "work"
    git(tmp_path, "clone", "-q", str(remote), str(folder))
    git(folder, "checkout", "-q", "-b", "main")
    return folder


def push(work: Path, files: dict[str, str], email: str = "anna@example.org", message: str = "Change") -> str:
    for name, text in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", message, "--author", f"X <{email}>")
    git(work, "push", "-q", "origin", "main")
    return git(work, "rev-parse", "HEAD")


@pytest.fixture
def source(tmp_path: Path, remote: Path) -> GitSource:
    return GitSource(tmp_path / "clone.git", str(remote), "main")


def test_head_follows_fast_forwards(source: GitSource, work: Path) -> None:
    first = push(work, {"a": "1"})
    assert source.head() == first
    second = push(work, {"a": "2"})
    assert source.head() == second


def test_a_rewritten_branch_is_refused_and_the_accepted_head_stays(source: GitSource, work: Path) -> None:
    push(work, {"a": "1"})
    accepted = push(work, {"a": "2"})
    assert source.head() == accepted
    git(work, "reset", "-q", "--hard", "HEAD~1")
    git(work, "commit", "-q", "--allow-empty", "-m", "other")
    git(work, "push", "-q", "--force", "origin", "main")
    with pytest.raises(RefusedError, match="rewritten"):
        source.head()


def test_a_missing_remote_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError):
        GitSource(tmp_path / "c.git", str(tmp_path / "nothing"), "main").head()


def test_files_are_read_as_committed(source: GitSource, work: Path) -> None:
    commit = push(work, {f"{FOLDER}/release.yaml": "x: 1\n", f"{FOLDER}/sub/ä.txt": "", "people.json": "{}"})
    source.head()
    found = source.read(commit, FOLDER)
    assert [(f.path, f.mode, f.data) for f in found] == [
        ("release.yaml", "100644", b"x: 1\n"),
        ("sub/ä.txt", "100644", b""),
    ]
    assert len(source.read(commit, "")) == 3
    assert source.read(commit, "no/such") == ()


def test_authors_are_those_who_touched_the_folder_even_on_a_merged_side_branch(source: GitSource, work: Path) -> None:
    base = push(work, {f"{FOLDER}/release.yaml": "1", "other": "1"}, "zoe@example.org")
    git(work, "checkout", "-q", "-b", "release/fraud-2")
    (work / FOLDER / "release.yaml").write_text("2")
    git(work, "commit", "-q", "-am", "Ask", "--author", "M <Mallory@Example.org>")
    git(work, "checkout", "-q", "main")
    push(work, {"other": "2"}, "bob@example.org")
    git(work, "merge", "-q", "--no-ff", "-m", "Merge", "release/fraud-2")
    git(work, "push", "-q", "origin", "main")
    head = source.head()
    assert source.authors(head, FOLDER, base) == ("mallory@example.org",)
    assert source.authors(head, FOLDER, None) == ("mallory@example.org", "zoe@example.org")


def test_a_release_that_was_undone_leaves_no_authors_behind(source: GitSource, work: Path) -> None:
    base = push(work, {f"{FOLDER}/release.yaml": "1"}, "zoe@example.org")
    bad = push(work, {f"{FOLDER}/release.yaml": "2"}, "mallory@example.org")
    source.revert(inverse(bad, base))
    git(work, "pull", "-q", "--ff-only", "origin", "main")
    good = push(work, {f"{FOLDER}/release.yaml": "3"}, "anna@example.org")
    source.head()
    assert source.authors(good, FOLDER, base) == ("anna@example.org",)


def inverse(bad: str, base: str | None) -> Inverse:
    return Inverse(FOLDER, bad, base, "Roll back fraud")


def test_the_inverse_commit_restores_the_folder_alone_and_is_idempotent(source: GitSource, work: Path) -> None:
    base = push(work, {f"{FOLDER}/release.yaml": "1", "other": "1"})
    bad = push(work, {f"{FOLDER}/release.yaml": "2", f"{FOLDER}/extra": "x", "other": "2"})
    done = source.revert(inverse(bad, base))
    assert done.outcome == "pushed"
    assert [f.data for f in source.read(done.commit, FOLDER)] == [b"1"]
    assert [f.data for f in source.read(done.commit, "") if f.path == "other"] == [b"2"]
    assert source.authors(done.commit, FOLDER, base) == ()
    assert source.revert(inverse(bad, base)).outcome == "already"


def test_a_first_release_is_undone_by_removing_its_folder(source: GitSource, work: Path) -> None:
    push(work, {"other": "1"})
    bad = push(work, {f"{FOLDER}/release.yaml": "1"})
    done = source.revert(inverse(bad, None))
    assert source.read(done.commit, FOLDER) == ()
    assert [f.path for f in source.read(done.commit, "")] == ["other"]


def test_a_folder_changed_since_is_left_alone(source: GitSource, work: Path) -> None:
    base = push(work, {f"{FOLDER}/release.yaml": "1"})
    bad = push(work, {f"{FOLDER}/release.yaml": "2"})
    newer = push(work, {f"{FOLDER}/release.yaml": "3"})
    done = source.revert(inverse(bad, base))
    assert (done.outcome, done.commit) == ("superseded", newer)


def test_a_change_elsewhere_is_rebased_upon(source: GitSource, work: Path) -> None:
    base = push(work, {f"{FOLDER}/release.yaml": "1"})
    bad = push(work, {f"{FOLDER}/release.yaml": "2"})
    source.head()
    elsewhere = push(work, {"other": "new"})
    done = source.revert(inverse(bad, base))
    assert done.outcome == "pushed"
    assert {f.path for f in source.read(done.commit, "")} == {f"{FOLDER}/release.yaml", "other"}
    assert source.authors(done.commit, "other", elsewhere) == ()


def test_an_inverse_commit_is_signed_when_the_controller_has_a_key(tmp_path: Path, remote: Path, work: Path) -> None:
    key = tmp_path / "controller"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    source = GitSource(tmp_path / "c.git", str(remote), "main", Identity(ssh_key=key))
    base = push(work, {f"{FOLDER}/release.yaml": "1"})
    bad = push(work, {f"{FOLDER}/release.yaml": "2"})
    done = source.revert(inverse(bad, base))
    allowed = tmp_path / "allowed"
    allowed.write_text(f"{Identity().email} {key.with_suffix('.pub').read_text()}")
    git(work, "fetch", "-q")
    git(work, "-c", f"gpg.ssh.allowedSignersFile={allowed}", "verify-commit", done.commit)
