"""Attacks on what is released: models, bundles, manifests and thresholds. Each ends in a refusal that the log tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.attacks.company import ROOT, Company
from tests.builders import tiny_files

from interlock.adapters.onnx.runtime import OnnxRuntime
from interlock.apps.control import founding
from interlock.apps.control.wishes import Wish
from interlock.base.canonical import canonical, digest_hex
from interlock.base.errors import IntegrityError, RefusedError
from interlock.decision.admin import Loaded
from interlock.decision.decide import decide
from interlock.decision.model import RuntimeFactory
from interlock.registry.bundle import Bundle
from interlock.serving.repository import Repository
from interlock.wiring import scorer

pytestmark = pytest.mark.process  # each on a company of its own, with real models and a real log


@pytest.fixture
def company(tmp_path: Path) -> Company:
    return Company(tmp_path)


def approved(company: Company, **options: Any) -> tuple[Bundle, Wish]:
    """A second version that everybody signed; the controller has not looked yet."""
    bundle = company.bundle("2.0.0", **options)
    return bundle, company.sign(company.propose(bundle))


def stored(company: Company, bundle: Bundle, name: str) -> Path:
    """A file of the bundle, as whoever owns the disk can write it."""
    path = company.settings.places.bundles / digest_hex(bundle.digest) / name
    if path.exists():
        path.chmod(0o644)
    return path


def overwrite(company: Company, bundle: Bundle) -> None:
    """Another valid model under the same name."""
    stored(company, bundle, "model.onnx").write_bytes(tiny_files(seed=99)["model.onnx"])


def move_approvals(company: Company, signed: Wish, changed: Wish) -> None:
    """Put the approvals of one folder where those of another are looked for."""
    place = f"approvals/{digest_hex(changed.folder)}"
    company.push({f"{place}/{name}": data for name, data in signed.approvals.items()}, "tess")


def refused_by_scorer(company: Company, *words: str) -> None:
    """The release was admitted, and what then lay there was refused by the scorer; the champion answers."""
    company.run()
    assert company.serving() == "1.0.0"
    assert company.scorers.loaded == {company.champion.digest}
    assert set(company.scorers.answered) <= {company.champion.digest}
    (ended,) = company.logged("rollout.refused")
    assert ended.body["version"] == "2.0.0"
    assert all(word in ended.body["reason"] for word in words), ended.body["reason"]


def test_attack_10_the_model_overwritten_before_it_is_judged(company: Company) -> None:
    bundle, _ = approved(company)
    overwrite(company, bundle)
    company.refused("model.onnx of bundle", "has other bytes")


def test_attack_10_the_model_overwritten_after_it_was_admitted(company: Company) -> None:
    bundle, _ = approved(company)
    good = company.scorers.load

    def late(service: str, digest: str, folder: str) -> Loaded:
        overwrite(company, bundle)
        return good(service, digest, folder)

    company.scorers.load = late  # type: ignore[method-assign,assignment]
    refused_by_scorer(company, "model.onnx of bundle")


def test_attack_10_the_admission_of_another_release_in_place_of_its_own(company: Company) -> None:
    bundle, wish = approved(company)
    places = company.settings.places
    (mine,) = (places.admissions / digest_hex(company.champion.digest)).iterdir()
    theirs = places.admissions / digest_hex(bundle.digest) / f"{digest_hex(wish.folder)}.json"
    theirs.parent.mkdir()
    theirs.write_bytes(mine.read_bytes())
    with pytest.raises(RefusedError, match="another release"):
        company.scorers.load("fraud", bundle.digest, wish.folder)


def test_attack_11_a_link_in_place_of_the_model(company: Company) -> None:
    bundle, _ = approved(company)
    path = stored(company, bundle, "model.onnx")
    elsewhere = company.home / "elsewhere.onnx"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)  # the right bytes, for now
    company.refused("model.onnx of the bundle cannot be read")


def models(company: Company, runtime: RuntimeFactory) -> Repository:
    """A scorer's repository of models under the company's trust root."""
    own = scorer.repository(company.settings, company.clock)
    places = company.settings.places
    return Repository(places.bundles, places.admissions, own._verify, runtime, company.clock)


def test_attack_11_the_model_swapped_between_its_check_and_its_session(company: Company) -> None:
    bundle, wish = approved(company)
    company.run()

    def swapping(data: bytes, output: str) -> OnnxRuntime:
        overwrite(company, bundle)
        return OnnxRuntime.from_bytes(data, output)

    late = models(company, swapping)
    model = late.load("fraud", bundle.digest, wish.folder)
    scores = decide(model, np.array(bundle.golden["vectors"], np.float32)).scores
    assert np.abs(scores - np.array(bundle.golden["scores"])).max() <= 1e-5, "the session has the checked bytes"
    late.release(bundle.digest)
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        late.load("fraud", bundle.digest, wish.folder)


@pytest.mark.parametrize("name", ["plugin.py", "explain/values.bin", ".hidden", "model.onnx.bak", "deep/er/still.txt"])
def test_attack_13_an_additional_file_in_the_bundle(name: str, company: Company) -> None:
    bundle, _ = approved(company)
    path = stored(company, bundle, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"import os")
    company.refused(f"missing or additional files: {name}")


def test_attack_13_and_named_in_the_index(company: Company) -> None:
    bundle, _ = approved(company)
    index = stored(company, bundle, "bundle.json")
    stored(company, bundle, "plugin.py").write_bytes(b"")
    index.write_bytes(canonical(json.loads(index.read_bytes()) | {"plugin.py": {"sha256": "0" * 64, "size": 0}}))
    company.refused("index of bundle", "has another digest")


YAML: dict[str, tuple[Callable[[str], str], str]] = {
    "an anchor": (lambda text: text.replace("name: fraud", "name: &it fraud"), "release.yaml:4"),
    "a duplicate key": (lambda text: text + '  version: "9.9.9"\n', "release.yaml:12"),
    "a look-alike key": (lambda text: text.replace("  bundle:", "  bundl\u0435:"), "release.yaml:7"),
    "a look-alike service": (lambda text: text.replace("name: fraud", "name: fr\u0430ud"), "release.yaml"),
    "an invisible letter": (lambda text: text.replace('"2.0.0"', '"2.0.0\u200b"'), "release.yaml"),
    "a tag": (lambda text: text.replace("shadows: []", "shadows: !!python/tuple []"), "release.yaml:11"),
    "a second document": (lambda text: text + "---\n" + text, "release.yaml:1: 2 documents"),
    "a merge key": (lambda text: text.replace("spec:", "spec:\n  <<: {version: '9'}"), "release.yaml:6"),
    "an unknown key": (lambda text: text + "  unless: friday\n", "release.yaml:12"),
}


@pytest.mark.parametrize("name", YAML)
def test_attack_15_a_manifest_that_shows_its_reviewer_something_else(name: str, company: Company) -> None:
    change, where = YAML[name]
    bundle = company.bundle("2.0.0")
    company.propose(bundle, release=change(company.manifests(bundle)["release.yaml"].decode()).encode())
    company.refused(where)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[technical, risk, compliance]", "&all [technical, risk, compliance]"),
        ("fraud: high", "fraud: high\n  fraud: high"),
        ("fraud: high", "fraud: high\n  fr\u0430ud: high"),
    ],
)
def test_attack_15_a_tier_policy_that_shows_its_reviewer_something_else(old: str, new: str, company: Company) -> None:
    approved(company)
    company.push({"policy/tiers.yaml": founding.default_tiers().decode().replace(old, new).encode()})
    company.refused("policy/tiers.yaml:")


def test_attack_15_a_service_folder_of_a_look_alike_name(company: Company) -> None:
    bundle = company.bundle("2.0.0")
    files = company.manifests(bundle)
    lookalike = ROOT.replace("fraud", "fr\u0430ud")
    company.push({f"{lookalike}/{name}": data for name, data in files.items()})
    company.refused("metadata.name is not")
    named = files["release.yaml"].replace(b"name: fraud", "name: fr\u0430ud".encode())
    company.push({f"{lookalike}/release.yaml": named})
    company.refused("release.yaml:")


LOW = ((0.1, "STEP_UP"), (0.2, "REVIEW"), (0.3, "DECLINE"))


def test_attack_20_thresholds_edited_in_the_bundle(company: Company) -> None:
    bundle, _ = approved(company)
    stored(company, bundle, "thresholds.json").write_bytes(tiny_files(cuts=LOW)["thresholds.json"])
    company.refused("thresholds.json of bundle")


def test_attack_20_other_thresholds_named_for_the_approved_model(company: Company) -> None:
    bundle, wish = approved(company)
    other = company.bundle("2.1.0", cuts=LOW)
    release = company.manifests(bundle)["release.yaml"].replace(
        bundle.threshold_set.encode(), other.threshold_set.encode()
    )
    move_approvals(company, wish, company.propose(bundle, release=release))
    company.refused("spec.thresholdSet is not what the bundle says")


def test_attack_20_the_same_model_with_other_thresholds_under_the_old_approvals(company: Company) -> None:
    bundle, wish = approved(company)
    other = company.bundle("2.0.0", cuts=LOW)
    assert other.files["model.onnx"] == bundle.files["model.onnx"]
    move_approvals(company, wish, company.propose(other))
    company.refused("the statement is about another folder, bundle, threshold_set")


def test_attack_20_a_guard_loosened_under_the_old_approvals(company: Company) -> None:
    bundle, wish = approved(company)
    policy = company.manifests(bundle)["rollout.yaml"] + b"  guards: {flag_up: {margin: 9.0}}\n"
    changed = company.propose(bundle, rollout=policy)
    assert changed.folder != wish.folder
    move_approvals(company, wish, changed)
    company.refused("the statement is about another folder")
