"""The Git source against real repositories."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from interlock.adapters.git.identity import Identity, controller, known_controller
from interlock.adapters.git.source import GitSource
from interlock.base.errors import RefusedError, UnreachableError
from interlock.rollout.ports import Inverse

pytestmark = pytest.mark.process  # every test starts git many times

FOLDER = "environments/production/services/fraud"
IDENTITY = ("-c", "user.name=A", "-c", "user.email=anna@example.org")


def git(where: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(where), *IDENTITY, *arguments],
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
    return GitSource(tmp_path / "clone.git", str(remote), "main", controller(tmp_path / "trust" / "controller.key"))


def authors(source: GitSource, commit: str, folder: str, since: str | None) -> tuple[str, ...]:
    return tuple(sorted({each.author for each in source.wrote(commit, folder, since)}))


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
    assert authors(source, head, FOLDER, base) == ("mallory@example.org",)
    assert authors(source, head, FOLDER, None) == ("mallory@example.org", "zoe@example.org")


def test_a_release_that_was_undone_leaves_no_authors_behind(source: GitSource, work: Path) -> None:
    base = push(work, {f"{FOLDER}/release.yaml": "1"}, "zoe@example.org")
    bad = push(work, {f"{FOLDER}/release.yaml": "2"}, "mallory@example.org")
    source.revert(inverse(bad, base))
    git(work, "pull", "-q", "--ff-only", "origin", "main")
    good = push(work, {f"{FOLDER}/release.yaml": "3"}, "anna@example.org")
    source.head()
    assert authors(source, good, FOLDER, base) == ("anna@example.org",)


def inverse(bad: str, base: str | None) -> Inverse:
    return Inverse(FOLDER, bad, base, "Roll back fraud")


def test_the_inverse_commit_restores_the_folder_alone_and_is_idempotent(source: GitSource, work: Path) -> None:
    base = push(work, {f"{FOLDER}/release.yaml": "1", "other": "1"})
    bad = push(work, {f"{FOLDER}/release.yaml": "2", f"{FOLDER}/extra": "x", "other": "2"})
    done = source.revert(inverse(bad, base))
    assert done.outcome == "pushed"
    assert [f.data for f in source.read(done.commit, FOLDER)] == [b"1"]
    assert [f.data for f in source.read(done.commit, "") if f.path == "other"] == [b"2"]
    assert authors(source, done.commit, FOLDER, base) == ()
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
    assert authors(source, done.commit, "other", elsewhere) == ()


def test_the_inverse_commit_leaves_approvals_and_other_services_alone(source: GitSource, work: Path) -> None:
    base = push(work, {f"{FOLDER}/release.yaml": "1"})
    bad = push(work, {f"{FOLDER}/release.yaml": "2", "approvals/aa/ben.risk.json": "{}"})
    push(work, {"environments/production/services/fraud-fr/release.yaml": "1", "approvals/bb/ben.risk.json": "{}"})
    done = source.revert(inverse(bad, base))
    kept = [f.path for f in source.read(done.commit, "") if not f.path.startswith(f"{FOLDER}/")]
    assert kept == [
        "approvals/aa/ben.risk.json",
        "approvals/bb/ben.risk.json",
        "environments/production/services/fraud-fr/release.yaml",
    ]
    assert [f.data for f in source.read(done.commit, FOLDER)] == [b"1"]


def test_returning_to_an_earlier_version_is_the_same_inverse(source: GitSource, work: Path) -> None:
    first = push(work, {f"{FOLDER}/release.yaml": "1"})
    push(work, {f"{FOLDER}/release.yaml": "2"})
    third = push(work, {f"{FOLDER}/release.yaml": "3"})
    push(work, {"other": "1"})
    done = source.revert(inverse(third, first))
    assert (done.outcome, [f.data for f in source.read(done.commit, FOLDER)]) == ("pushed", [b"1"])
    assert source.introduced(done.commit, FOLDER) == done.commit


def test_an_inverse_to_what_is_there_pushes_nothing(source: GitSource, work: Path) -> None:
    base = push(work, {f"{FOLDER}/release.yaml": "1"})
    bad = push(work, {"other": "1"})
    done = source.revert(inverse(bad, base))
    assert (done.outcome, done.commit) == ("already", bad)


def test_a_race_with_another_push_is_judged_again(
    source: GitSource, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = push(work, {f"{FOLDER}/release.yaml": "1"})
    bad = push(work, {f"{FOLDER}/release.yaml": "2"})
    heads = iter([lambda: push(work, {"other": "raced"})])
    real = source.head

    def head() -> str:
        found = real()
        next(heads, lambda: "")()  # somebody pushes between our look and our push, once
        return found

    monkeypatch.setattr(source, "head", head)
    done = source.revert(inverse(bad, base))
    assert done.outcome == "pushed"
    assert {f.path: f.data for f in source.read(done.commit, "")} == {f"{FOLDER}/release.yaml": b"1", "other": b"raced"}


def test_an_inverse_commit_is_signed_with_the_controllers_key(source: GitSource, work: Path, tmp_path: Path) -> None:
    base = push(work, {f"{FOLDER}/release.yaml": "1"})
    bad = push(work, {f"{FOLDER}/release.yaml": "2"})
    done = source.revert(inverse(bad, base))
    allowed = tmp_path / "allowed"
    public = (tmp_path / "trust" / "controller.key.pub").read_text()
    allowed.write_text(f"{Identity().email} {public}")
    git(work, "fetch", "-q")
    git(work, "-c", f"gpg.ssh.allowedSignersFile={allowed}", "verify-commit", done.commit)
    git(work, "fsck", "--strict", done.commit)
    assert stat.S_IMODE((tmp_path / "trust" / "controller.key").stat().st_mode) == 0o600


def test_the_controllers_commits_are_known_by_its_public_half_alone(
    source: GitSource, work: Path, remote: Path, tmp_path: Path
) -> None:
    base = push(work, {f"{FOLDER}/release.yaml": "1"})
    bad = push(work, {f"{FOLDER}/release.yaml": "2"})
    done = source.revert(inverse(bad, base))
    reader = GitSource(tmp_path / "r.git", str(remote), "main", known_controller(tmp_path / "trust" / "controller.key"))
    reader.head()
    assert authors(reader, done.commit, FOLDER, bad) == ()
    stranger = GitSource(tmp_path / "s.git", str(remote), "main", controller(tmp_path / "other.key"))
    stranger.head()
    assert authors(stranger, done.commit, FOLDER, bad) == (Identity().email,)


def test_attack_03_a_commit_that_only_names_the_controller_has_an_author(source: GitSource, work: Path) -> None:
    base = push(work, {f"{FOLDER}/release.yaml": "1"})
    bad = push(work, {f"{FOLDER}/release.yaml": "2"}, Identity().email, "Roll back fraud")
    source.head()
    assert authors(source, bad, FOLDER, base) == (Identity().email,)


def test_attack_03_a_merge_that_takes_up_an_old_state_has_an_author(source: GitSource, work: Path) -> None:
    push(work, {f"{FOLDER}/release.yaml": "1"}, "zoe@example.org")
    old = push(work, {f"{FOLDER}/release.yaml": "mine"}, "mallory@example.org")
    base = push(work, {f"{FOLDER}/release.yaml": "3"}, "zoe@example.org")
    git(work, "checkout", "-q", "-b", "side", old)
    git(work, "commit", "-q", "--allow-empty", "-m", "harmless", "--author", "Bob <bob@example.org>")
    git(work, "checkout", "-q", "main")
    git(work, "merge", "-q", "-s", "ours", "--no-commit", "side")
    git(work, "checkout", "-q", old, "--", FOLDER)
    git(work, "-c", "user.email=mallory@example.org", "commit", "-q", "-m", "Merge")
    git(work, "push", "-q", "origin", "main")
    assert authors(source, source.head(), FOLDER, base) == ("mallory@example.org",)


def test_links_and_submodules_are_read_as_what_they_are(source: GitSource, work: Path) -> None:
    commit = push(work, {f"{FOLDER}/release.yaml": "1"})
    (work / FOLDER / "link").symlink_to("/etc/passwd")
    git(work, "update-index", "--add", "--cacheinfo", f"160000,{commit},{FOLDER}/module")
    git(work, "add", f"{FOLDER}/link")
    git(work, "commit", "-q", "-m", "Strange things")
    git(work, "push", "-q", "origin", "main")
    found = {f.path: (f.mode, f.data) for f in source.read(source.head(), FOLDER)}
    assert found == {
        "link": ("120000", b"/etc/passwd"),
        "module": ("160000", b""),
        "release.yaml": ("100644", b"1"),
    }


def test_a_folders_name_is_no_pattern(source: GitSource, work: Path) -> None:
    place = "environments/production/services"
    base = push(work, {f"{place}/fraud/release.yaml": "1"})
    bad = push(work, {f"{place}/f*/release.yaml": "1"})
    done = source.revert(Inverse(f"{place}/f*", bad, base, "Undo"))
    assert [f.path for f in source.read(done.commit, "")] == [f"{place}/fraud/release.yaml"]
    assert source.introduced(done.commit, f"{place}/fraud") == base


def test_what_introduced_a_folder_is_the_branchs_own_commit(source: GitSource, work: Path) -> None:
    push(work, {"other": "1"})
    git(work, "checkout", "-q", "-b", "side")
    (work / FOLDER).mkdir(parents=True)
    (work / FOLDER / "release.yaml").write_text("1")
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", "Ask")
    git(work, "checkout", "-q", "main")
    git(work, "merge", "-q", "--no-ff", "-m", "Merge", "side")
    merge = git(work, "rev-parse", "HEAD")
    later = push(work, {"other": "2"})
    source.head()
    assert source.introduced(later, FOLDER) == merge
    assert source.introduced(later, "environments/staging") == ""
