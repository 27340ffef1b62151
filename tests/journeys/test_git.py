"""A release repository as people really use it: a bare remote, clones, signed commits, and a controller that follows.

The gate, the signatures, Git, the database and the log are real; the scorers are those of the
simulated company, which judge admissions again under their own root.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.attacks.company import POLICY, ROOT, SERVICES, STAFF, Company
from tests.journeys.real_git import RealGit

from interlock.adapters.git.identity import CONTROLLER
from interlock.apps.control.wishes import Wish, read
from interlock.trust.sshsig import Key, sign

pytestmark = [
    pytest.mark.process,  # runs git many times
    pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="people sign with ssh-keygen"),
]
SLOW = {"rollout": POLICY.replace("for: 1s", "for: 60s").encode()}


@pytest.fixture
def company(tmp_path: Path) -> Company:
    """A company in which 1.0.0 serves, on a real repository."""
    keys = {who: Key.generate() for who in STAFF}
    return Company(tmp_path / "home", git=RealGit(tmp_path / "git", keys), keys=keys)  # type: ignore[arg-type]


def refusals(company: Company) -> list[str]:
    return [str(event.body["reason"]) for event in company.logged("release.refused")]


def reverted(company: Company) -> list[str]:
    return [str(event.body["reverted"]) for event in company.logged("release.reverted")]


def turns(company: Company, count: int) -> None:
    for _ in range(count):
        company.controller.turn()
        company.clock.advance(0.5)
        company.scorers.tick(100)


# --- the good way -------------------------------------------------------------------------


def test_a_push_to_main_is_released_whatever_else_is_pushed(company: Company) -> None:
    git = company.git
    git.start("ada", "draft")
    git.commit({f"{ROOT}/release.yaml": b"nothing"}, "ada")
    git.git("ada", "push", "--quiet", "origin", "draft")
    git.git("ada", "tag", "v9")
    git.git("ada", "push", "--quiet", "--tags", "origin")
    company.run()
    assert (company.serving(), refusals(company)) == ("1.0.0", [])
    company.sign(company.propose(company.bundle("2.0.0")))
    company.run()
    assert company.serving() == "2.0.0"


def proposal(company: Company, version: str = "2.0.0") -> Wish:
    """A branch `release` with a signed proposal and its approvals, while main went on."""
    git = company.git
    git.start("ada", "release")
    files = company.manifests(company.bundle(version))
    commit = git.commit({f"{ROOT}/{name}": data for name, data in files.items()}, "ada")
    git.git("ada", "push", "--quiet", "origin", "release:release")
    git.source._git("fetch", "--quiet", str(git.remote), "release")
    wish = read(git, commit, "production")["fraud"]
    for who, role in {"tess": "technical", "rik": "risk", "cleo": "compliance"}.items():
        data = company.statement(wish, who, role)
        git.commit(company.approval(wish, f"{who}.{role}", data, sign(data, company.keys[who])), who, sign=False)
    git.update()
    git.commit({"README.md": b"main went on"}, "dora")
    git.publish("dora")
    return wish


def by_merge_commit(git: RealGit) -> None:
    git.git("dora", "merge", "--quiet", "--no-ff", "-m", "Merge", "release", sign=False)


def by_squash(git: RealGit) -> None:
    git.git("ada", "merge", "--quiet", "--squash", "release")
    git.git("ada", "commit", "--quiet", "-m", "Release")


def by_rebase(git: RealGit) -> None:
    git.git("ada", "checkout", "--quiet", "release")
    git.git("ada", "rebase", "--quiet", "--gpg-sign", "main")


@pytest.mark.parametrize("merge", [by_merge_commit, by_squash, by_rebase])
def test_any_merge_that_yields_the_tree_is_accepted(company: Company, merge: Callable[[RealGit], None]) -> None:
    wish = proposal(company)
    merge(company.git)
    commit = company.git.publish()
    company.run()
    assert (company.serving(), refusals(company)) == ("2.0.0", [])
    admitted = company.logged("release.admitted")[-1].body
    assert (admitted["commit"], admitted["folder"], admitted["authors"]) == (commit, wish.folder, ["ada"])


def test_a_squash_that_drops_the_signature_is_refused_and_its_signed_repetition_is_released(company: Company) -> None:
    proposal(company)
    company.git.git("ada", "merge", "--quiet", "--squash", "release")
    company.git.git("ada", "commit", "--quiet", "-m", "Release", sign=False)
    company.git.publish()
    company.refused("is not signed", "merge without rewriting")
    company.git.git("ada", "revert", "--no-edit", "HEAD")
    company.git.publish()
    turns(company, 4)
    company.git.git("ada", "revert", "--no-edit", "HEAD")  # the same tree, by a commit that is signed
    company.git.publish()
    company.run()
    assert company.serving() == "2.0.0"


# --- going back ---------------------------------------------------------------------------


def test_a_revert_by_hand_ends_an_unfinished_release(company: Company) -> None:
    company.sign(company.propose(company.bundle("2.0.0"), **SLOW))
    turns(company, 6)
    assert company.controller.busy()
    company.git.update()
    changed = company.git.git("ada", "rev-list", "-1", "HEAD", "--", ROOT)
    company.git.git("ada", "revert", "--no-edit", changed)
    commit = company.git.publish()
    company.run()
    assert company.serving() == "1.0.0"
    (taken,) = company.logged("release.quarantined")
    assert (taken.body["version"], commit[:12] in str(taken.body["reason"])) == ("2.0.0", True)
    assert reverted(company) == [f"already {commit}"], "a person had made the inverse commit"
    assert company.git.log("%H") == commit


def test_a_revert_by_hand_of_a_settled_release_serves_the_former_one_without_new_approvals(company: Company) -> None:
    company.sign(company.propose(company.bundle("2.0.0")))
    company.run()
    assert company.serving() == "2.0.0"
    company.git.update()
    changed = company.git.git("ada", "rev-list", "-1", "HEAD", "--", ROOT)
    company.git.git("ada", "revert", "--no-edit", changed)
    company.git.publish()
    company.run()
    assert company.serving() == "1.0.0"
    assert [event.body["version"] for event in company.logged("release.admitted")] == ["1.0.0", "2.0.0"]


def retreat(company: Company) -> None:
    company.scorers.retreat("fraud", "person-1", "complaints", "sam", company.clock.now_ns())


def test_the_controllers_inverse_commit_says_why_is_signed_and_leaves_approvals(company: Company) -> None:
    wish = company.sign(company.propose(company.bundle("2.0.0"), **SLOW))
    turns(company, 6)
    retreat(company)
    company.run()
    assert company.serving() == "1.0.0"
    assert company.git.log("%ae") == CONTROLLER
    message = company.git.log("%B")
    assert "Roll back fraud 2.0.0: complaints" in message
    assert "Evidence: interlock rollout show" in message
    head = company.git.head()
    assert company.git.wrote(head, ROOT, wish.commit) == (), "known again by its signature"
    now = read(company.git, head, "production")["fraud"]
    assert now.folder == company.controller._known.live("fraud").folder
    names = {file.path for file in company.git.read(head, "")}
    assert {path for path in names if wish.folder.partition(":")[2] in path}, "approvals are history"
    assert reverted(company) == [f"pushed {head}"]


def test_git_down_during_a_rollback_delays_the_commit_and_nothing_else(company: Company) -> None:
    company.sign(company.propose(company.bundle("2.0.0"), **SLOW))
    turns(company, 6)
    company.git.down = True
    retreat(company)
    turns(company, 6)
    assert company.serving() == "1.0.0"
    assert company.scorers.latch is None, "the champion's own table is in force"
    assert reverted(company) == []
    company.git.down = False
    company.run()
    assert company.git.log("%ae") == CONTROLLER
    assert reverted(company) == [f"pushed {company.git.log('%H')}"]
    assert company.serving() == "1.0.0"


def test_a_controller_that_starts_while_git_is_down_makes_the_inverse_commit_later(company: Company) -> None:
    company.sign(company.propose(company.bundle("2.0.0"), **SLOW))
    turns(company, 6)
    company.git.down = True
    retreat(company)
    turns(company, 2)
    company.start()
    turns(company, 4)
    assert company.serving() == "1.0.0"
    company.git.down = False
    company.run()
    assert reverted(company) == [f"pushed {company.git.log('%H')}"]


def test_an_inverse_commit_is_made_on_top_of_what_others_pushed_and_not_over_what_they_changed(
    company: Company,
) -> None:
    company.sign(company.propose(company.bundle("2.0.0"), **SLOW))
    turns(company, 6)
    company.git.down = True
    retreat(company)
    turns(company, 2)
    company.git.down = False
    company.git.push({"README.md": b"elsewhere"})
    company.run()
    assert company.git.log("%ae") == CONTROLLER
    assert {f.path: f.data for f in company.git.read(company.git.head(), "")}["README.md"] == b"elsewhere"


def test_a_newer_commit_supersedes_an_unfinished_release(company: Company) -> None:
    company.sign(company.propose(company.bundle("2.0.0"), **SLOW))
    turns(company, 6)
    company.sign(company.propose(company.bundle("3.0.0")))
    company.run()
    assert company.serving() == "3.0.0"
    assert company.logged("release.reverted") == []
    assert company.git.log("%ae") != CONTROLLER


# --- what is refused ----------------------------------------------------------------------


def test_a_force_push_is_refused_once_and_a_fast_forward_is_followed_again(company: Company) -> None:
    accepted = company.git.head()
    company.git.update()
    company.git.git("ada", "reset", "--quiet", "--hard", "HEAD~1")
    company.git.commit({"README.md": b"another past"}, "ada")
    company.git.publish("ada", "--force")
    turns(company, 10)
    company.start()
    turns(company, 10)
    assert [reason for reason in refusals(company) if "was rewritten" in reason] == refusals(company)
    assert len(refusals(company)) == 1
    assert company.serving() == "1.0.0"
    company.git.git("ada", "reset", "--quiet", "--hard", accepted)
    company.git.publish("ada", "--force")
    company.sign(company.propose(company.bundle("2.0.0")))
    company.run()
    assert company.serving() == "2.0.0"
    assert len(refusals(company)) == 1


def test_a_bad_manifest_is_refused_with_its_line_and_leaves_other_services_alone(company: Company) -> None:
    bad = company.manifests(company.bundle("9.0.0"))["rollout.yaml"].replace(b"  strategy", b"  stratergy")
    company.git.push({f"{SERVICES}/fraud-fr/{name}": bad for name in ("release.yaml", "rollout.yaml")})
    company.sign(company.propose(company.bundle("2.0.0")))
    company.run()
    assert company.serving() == "2.0.0"
    (refusal,) = company.logged("release.refused")
    assert refusal.object == "service/fraud-fr"
    broken = company.manifests(company.bundle("3.0.0"))
    company.propose(company.bundle("3.0.0"), rollout=broken["rollout.yaml"].replace(b"  strategy", b"  stratergy"))
    company.run()
    reason = refusals(company)[-1]
    assert "rollout.yaml:5: RolloutPolicy.spec.stratergy: unknown key" in reason
    assert "known here: strategy" in reason
    assert company.serving() == "2.0.0"


def test_a_link_in_one_folder_is_that_services_problem_alone(company: Company) -> None:
    place = company.git.work / SERVICES / "fraud-fr"
    company.git.update()
    place.mkdir()
    (place / "release.yaml").symlink_to("../fraud/release.yaml")
    company.git.commit({}, "ada")
    company.git.publish()
    company.sign(company.propose(company.bundle("2.0.0")))
    company.run()
    assert company.serving() == "2.0.0"
    assert "release.yaml is no plain file" in refusals(company)[0]


def test_a_folder_that_is_removed_changes_nothing_that_serves(company: Company) -> None:
    names = company.manifests(company.champion)
    company.git.push({f"{ROOT}/{name}": None for name in names})
    turns(company, 10)
    company.git.push({"README.md": b"life goes on"})
    turns(company, 10)
    company.start()
    turns(company, 10)
    (reason,) = refusals(company)
    assert "the folder of fraud was removed" in reason
    assert "bring it back" in reason
    company.untouched()
    company.sign(company.propose(company.bundle("2.0.0")))
    company.run()
    assert company.serving() == "2.0.0"


def test_a_folder_that_is_removed_ends_its_unfinished_release(company: Company) -> None:
    company.sign(company.propose(company.bundle("2.0.0"), **SLOW))
    turns(company, 6)
    company.git.push({f"{ROOT}/{name}": None for name in company.manifests(company.champion)})
    company.run()
    assert company.serving() == "1.0.0"
    assert "was removed" in refusals(company)[-1]


# --- attacks on who wrote it --------------------------------------------------------------


def test_attack_01_an_unsigned_commit_where_the_tier_asks_for_signatures(company: Company) -> None:
    wish = company.propose(company.bundle("2.0.0"))
    company.sign(wish)
    company.git.update()
    company.git.commit({f"{ROOT}/rollout.yaml": POLICY.encode() + b"# quicker\n"}, "ada", sign=False)
    company.git.publish()
    company.refused("by ada@example.org is not signed")


def test_attack_03_an_author_who_calls_himself_the_controller(company: Company) -> None:
    company.git.update()
    files = company.manifests(company.bundle("2.0.0"))
    company.git.commit({f"{ROOT}/{n}": d for n, d in files.items()}, "dora", sign=True, email=CONTROLLER)
    company.git.publish("dora")
    company.refused("author who is not in people.json")


def test_attack_03_an_author_who_signs_under_anothers_name(company: Company) -> None:
    company.git.update()
    files = company.manifests(company.bundle("2.0.0"))
    company.git.commit({f"{ROOT}/{n}": d for n, d in files.items()}, "dora", email="ada@example.org")
    company.git.publish("dora")
    company.refused("by ada is signed by dora")


def test_attack_03_a_committer_for_another_may_not_approve(company: Company) -> None:
    company.git.update()
    for name, data in company.manifests(company.bundle("2.0.0")).items():
        (company.git.work / ROOT / name).write_bytes(data)
    company.git.git("dora", "add", "--all")
    company.git.git("dora", "commit", "--quiet", "-m", "Change", "--author", "ada <ada@example.org>")
    wish = read(company.git, _published(company), "production")["fraud"]
    company.sign(wish, {"dora": "technical", "rik": "risk", "cleo": "compliance"}, authors=("ada", "dora"))
    company.refused("dora is an author of this release")


def _published(company: Company) -> str:
    company.git.publish("dora")
    return company.git.head()


def test_attack_08_a_commit_by_somebody_revoked_however_old_it_says_it_is(company: Company) -> None:
    company.propose(company.bundle("2.0.0"))
    company.govern(company.people(ada={"revoked": "2020-01-01T00:00:00Z"}))
    company.refused("is by ada, who has been revoked")
