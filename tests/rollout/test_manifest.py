"""Manifests are read strictly: what is wrong is named with its line and a remedy."""

from __future__ import annotations

import pytest

from interlock.base.errors import UsageError
from interlock.base.strict_yaml import YamlError
from interlock.decision.table import Segments
from interlock.rollout.manifest import Release, parse, parse_release, refuse_second_hops
from interlock.rollout.policy import parse_policy
from interlock.rollout.ports import SourceFile
from interlock.rollout.propose import Model, manifests
from interlock.rollout.spec import seconds
from interlock.rollout.values import Standing

D = "sha256:" + "ab" * 32
RELEASE = f"""apiVersion: interlock.dev/v1alpha1
kind: Release
metadata: {{name: fraud}}
spec:
  version: "1.2.3"
  bundle: {D}
  featureSet: {D}
  thresholdSet: {D}
"""
POLICY = """apiVersion: interlock.dev/v1alpha1
kind: RolloutPolicy
metadata: {name: fraud}
spec:
  strategy: canary
  steps: [{shadow: 3s}, {weight: 10, for: 2s}, {weight: 50, for: 1m}, {weight: 100}]
  watch: {holdback: 0.1, for: 10s}
"""


def test_a_release_says_which_version_decides() -> None:
    release = parse_release(RELEASE, "release.yaml")
    assert (release.service, release.version, release.bundle, release.fallback) == (
        "fraud",
        "1.2.3",
        D,
        {"decision": "REVIEW"},
    )


ROUTING = """  routing:
    field: country
    services:
      FR: fraud-fr
      NO: fraud-nordic
"""


def test_a_release_may_give_segments_to_other_services() -> None:
    found = parse_release(RELEASE + ROUTING, "release.yaml").routing
    assert found == Segments("country", {"FR": "fraud-fr", "NO": "fraud-nordic"})
    assert parse_release(RELEASE, "release.yaml").routing is None


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("field: country", "field: ip", 10, "unknown value"),
        ("    field: country\n", "", 10, "missing"),
        ("    services:", "    service:", 11, "unknown key"),
        ("FR: fraud-fr", "FR: 1", 12, "not a string"),
        ("FR: fraud-fr", "FRA: fraud-fr", 12, "no country"),
        ("FR: fraud-fr", "FR: Fraud", 12, "no service name"),
        ("NO: fraud-nordic", "NO: fraud", 13, "itself"),
        ("NO: fraud-nordic", "FR: fraud-nordic", 13, "duplicate"),
        ("      FR: fraud-fr\n      NO: fraud-nordic\n", "      {}\n", 11, "not 1 to"),
    ],
)
def test_wrong_routing_names_line_and_remedy(old: str, new: str, line: int, says: str) -> None:
    with pytest.raises(YamlError, match=says) as caught:
        parse_release((RELEASE + ROUTING).replace(old, new), "release.yaml")
    assert caught.value.line == line
    assert caught.value.remedy


def routed(service: str, **services: str) -> Release:
    return Release(service, "1.0.0", D, D, D, {}, routing=Segments("country", services) if services else None)


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ({}, "no release"),
        ({"fr": None}, "no release"),
        ({"fr": routed("fr", DE="de")}, "passed on once"),
        ({"fr": routed("fr"), "world": routed("world", NL="fraud")}, "cannot route further"),
    ],
)
def test_a_transaction_is_passed_on_once(others: dict[str, Release | None], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        refuse_second_hops(routed("fraud", FR="fr"), others)


def test_whoever_routes_to_nobody_may_be_routed_to() -> None:
    refuse_second_hops(routed("fr"), {"fraud": routed("fraud", FR="fr")})
    refuse_second_hops(routed("fraud", FR="fr"), {"fr": routed("fr"), "world": routed("world", NL="fr")})


def test_a_proposal_keeps_its_routing() -> None:
    routing = Segments("mcc", {"5411": "groceries", "0742": "vets"})
    files = manifests(Model("fraud", "1.2.3", D, D, D), routing=routing)
    assert parse([SourceFile(name, "100644", data) for name, data in files.items()], "fraud").release.routing == routing


def shadows(*rows: str) -> str:
    return RELEASE + "  shadows:\n" + "".join(f"    - {{{each}}}\n" for each in rows)


def test_a_release_names_standing_shadows_by_version_bundle_and_the_folder_that_admitted_them() -> None:
    other, folder = ("sha256:" + digit * 64 for digit in "ef")
    one = f'version: "1.1.0", bundle: "{other}", folder: "{folder}"'
    assert parse_release(shadows(one), "release.yaml").shadows == (Standing("1.1.0", other, folder),)
    assert parse_release(RELEASE + "  shadows: []\n", "release.yaml").shadows == ()
    for wrong, says in (
        (shadows(one, one), "named twice"),
        (shadows(one.replace(other, D)), "named twice"),
        (shadows(one.replace("1.1.0", "new")), "semantic"),
        (shadows(one.replace(folder, "x")), "sha256"),
        (shadows(one + ", share: 0.1"), "unknown key"),
        (shadows(*(one.replace("e" * 64, digit * 64) for digit in "234")), "list of 2 at most"),
        (shadows(one.partition(", folder")[0]), "missing"),
        (RELEASE + "  shadows: 1.1.0\n", "list of 2 at most"),
    ):
        with pytest.raises(YamlError, match=says) as caught:
            parse_release(wrong, "release.yaml")
        assert caught.value.remedy


def test_a_policy_becomes_a_plan_with_the_default_guards() -> None:
    plan = parse_policy(POLICY, "rollout.yaml")
    assert plan.shadow_s == 3
    assert [(step.share, step.for_s) for step in plan.steps] == [(1000, 2), (5000, 60)]
    assert (plan.holdback, plan.watch_s, plan.deadline_s) == (1000, 10, 600)
    assert {name: setting.margin for name, setting in plan.guards.items()} == {
        "errors": 2.0,
        "misses": 2.0,
        "latency": 1.3,
        "flag_up": 1.3,
        "flag_down": 1.3,
        "degraded": 2.0,
        "nulls": 2.0,
        "shadow_flips": 1.3,
        "score_shape": 1.0,
    }
    paid = ("errors", "misses", "latency", "flag_up", "flag_down")
    assert {name: setting.alpha for name, setting in plan.guards.items() if setting.alpha} == dict.fromkeys(paid, 0.002)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("  version:", "  verison:", 5, "unknown key"),
        ('"1.2.3"', "1.2", 5, "not a string"),
        ('"1.2.3"', '"1.2"', 5, "semantic version"),
        (f"bundle: {D}", "bundle: sha256:AB", 6, "sha256"),
        ("kind: Release", "kind: Rollout", 2, "unknown value"),
        ("metadata: {name: fraud}", "metadata: {name: ../x}", 3, "service name"),
        (f"  thresholdSet: {D}\n", f"  thresholdSet: {D}\n  thresholdSet: {D}\n", 9, "duplicate"),
        (f"  thresholdSet: {D}\n", "", 5, "missing"),
        ("spec:\n", "spec: &a\n", 4, "anchors"),
    ],
)
def test_a_wrong_release_names_line_and_remedy(old: str, new: str, line: int, says: str) -> None:
    with pytest.raises(YamlError, match=says) as caught:
        parse_release(RELEASE.replace(old, new), "release.yaml")
    assert caught.value.line == line
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("strategy: canary", "strategy: yolo", "known: canary"),
        ("{weight: 50, for: 1m}", "{weight: 5, for: 1m}", "do not rise"),
        ("{weight: 50, for: 1m}", "{weight: 50}", "missing"),
        ("{weight: 50, for: 1m}", "{weight: fifty, for: 1m}", "not a number"),
        ("{weight: 50, for: 1m}", "{shadow: 3s}", "not the first"),
        ("for: 2s", "for: soon", "not a duration"),
        ("holdback: 0.1", "holdback: 0.9", "0 to 0.5"),
        ("  watch", "  guards: {speed: {margin: 2}}\n  watch", "known here: errors"),
        ("  watch", "  guards: {errors: {budget: 0.05}}\n  watch", "spend more"),
        ("  watch", "  advance: hope\n  watch", "known: timeline, evidence"),
        ("strategy: canary", "strategy: blue-green", "blue-green has weights"),
    ],
)
def test_a_wrong_policy_says_what_is_known(old: str, new: str, says: str) -> None:
    with pytest.raises(YamlError) as caught:
        parse_policy(POLICY.replace(old, new), "rollout.yaml")
    assert says in str(caught.value)


def test_a_folder_without_all_three_files_or_with_another_name_is_refused() -> None:
    files = [SourceFile(name, "100644", data) for name, data in manifests(Model("fraud", "1.0.0", D, D, D)).items()]
    assert parse(files, "fraud").release.version == "1.0.0"
    with pytest.raises(UsageError, match=r"no rollout\.yaml"):
        parse([file for file in files if file.path != "rollout.yaml"], "fraud")
    with pytest.raises(UsageError, match="not credit"):
        parse(files, "credit")


def test_durations() -> None:
    assert [seconds(text) for text in ("3s", "1.5m", "250ms", "2h", "3", 3, "-3s")] == [
        3,
        90,
        0.25,
        7200,
        None,
        None,
        None,
    ]
