"""The manifests of a release, read strictly: what decides, how it may change, what it runs on.

Unknown keys, missing keys, wrong types and values out of range are refused with file, line and
remedy. A manifest states the whole wish; nothing is taken from elsewhere but the defaults below.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from interlock.base.errors import UsageError
from interlock.base.strict_yaml import YamlError
from interlock.decision.table import SEGMENT_FIELDS, STANDING, Segments
from interlock.rollout.plan import Plan
from interlock.rollout.policy import parse_policy
from interlock.rollout.ports import SourceFile
from interlock.rollout.spec import API, Spec, document
from interlock.rollout.values import Standing

FILES = ("inferenceservice.yaml", "release.yaml", "rollout.yaml")
DECISIONS = ("APPROVE", "STEP_UP", "REVIEW", "DECLINE")
_NUMBER = r"(0|[1-9][0-9]*)"
_VERSION = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")


class Release(msgspec.Struct, frozen=True):
    """`release.yaml`: which version decides."""

    service: str
    version: str
    bundle: str
    feature_set: str
    threshold_set: str
    fallback: dict[str, str]
    shadows: tuple[Standing, ...] = ()
    routing: Segments | None = None


class Manifests(msgspec.Struct, frozen=True):
    """The three files of a service folder, understood."""

    release: Release
    plan: Plan


def parse(files: Iterable[SourceFile], service: str) -> Manifests:
    """The manifests among the files of `service`'s folder.

    Raises:
        UsageError: a file is missing, or (YamlError) names its line and the remedy.
    """
    texts = {file.path: file for file in files}
    missing = [name for name in FILES if name not in texts]
    if missing:
        raise UsageError(f"{service}: no {missing[0]}", "run `interlock release propose`, which writes all three files")
    release = parse_release(_text(texts["release.yaml"]), "release.yaml")
    plan = parse_policy(_text(texts["rollout.yaml"]), "rollout.yaml")
    runs_on = parse_inference_service(_text(texts["inferenceservice.yaml"]), "inferenceservice.yaml")
    for name, found in (("release.yaml", release.service), ("inferenceservice.yaml", runs_on)):
        if found != service:
            raise UsageError(f"{name}: metadata.name is not {service}", "name the service as its folder is named")
    return Manifests(release, plan)


def parse_release(text: str, source: str) -> Release:
    """`release.yaml`."""
    name, spec = document(text, source, API, "Release")
    known = ("version", "bundle", "featureSet", "thresholdSet")
    spec.take(required=known, optional=("fallback", "shadows", "routing"))
    version = _semantic(spec)
    digests = {key: spec.digest(key) for key in ("bundle", "featureSet", "thresholdSet")}
    return Release(
        name,
        version,
        digests["bundle"],
        digests["featureSet"],
        digests["thresholdSet"],
        _fallback(spec),
        _shadows(spec, digests["bundle"]),
        _routing(spec, name),
    )


def refuse_second_hops(release: Release, others: Mapping[str, Release | None], source: str = "release.yaml") -> None:
    """Refuse routing that would take a transaction further than to one other service.

    Args:
        release: of the service in question.
        others: the environment's other services; None: its release cannot be read.
        source: the name of the release's file.

    Raises:
        UsageError: it routes to a service that is not there, or that routes itself; or it routes, and
            another service routes to it.
    """
    if release.routing is None:
        return
    for name in sorted(set(release.routing.services.values())):
        other = others.get(name)
        if other is None:
            problem = f"{name} has no release in this environment"
            raise UsageError(f"{source}: spec.routing: {problem}", "release it first, or route to another service")
        if other.routing is not None:
            problem = f"{name} routes its own segments: a transaction is passed on once"
            raise UsageError(f"{source}: spec.routing: {problem}", "name the service that decides in the end")
    for name, other in sorted(others.items()):
        if other is not None and other.routing and release.service in other.routing.services.values():
            problem = f"{name} routes to {release.service}, which so cannot route further"
            raise UsageError(f"{source}: spec.routing: {problem}", f"write these segments into the release of {name}")


def parse_inference_service(text: str, source: str) -> str:
    """`inferenceservice.yaml` (KServe v1beta1): its name; on one machine it names no image."""
    name, spec = document(text, source, "serving.kserve.io/v1beta1", "InferenceService")
    spec.take(required=("predictor",), optional=("transformer", "explainer"))
    return name


def _text(file: SourceFile) -> str:
    try:
        return file.data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise YamlError(file.path, 1, "not UTF-8", "save the file as UTF-8") from error


def _semantic(spec: Spec) -> str:
    version = spec.string("version")
    if not _VERSION.fullmatch(version):
        raise spec.wrong("version", "not a semantic version", "write MAJOR.MINOR.PATCH, in quotes")
    return version


def _shadows(spec: Spec, bundle: str) -> tuple[Standing, ...]:
    rows = spec.body.get("shadows")
    if rows is None:
        return ()
    if not isinstance(rows, list) or len(rows) > len(STANDING):
        raise spec.wrong("shadows", f"not a list of {len(STANDING)} at most", "write `shadows: []` for none")
    found, line = [], spec.body.lines.get("shadows", spec.body.line)
    for row in rows:
        one = Spec(row, spec.source, line, "spec.shadows")
        one.take(required=("version", "bundle", "folder"))
        found.append(Standing(_semantic(one), one.digest("bundle"), one.digest("folder")))
    if len({bundle, *(each.bundle for each in found)}) <= len(found):
        raise spec.wrong(
            "shadows", "a bundle is named twice", "name bundles other than the one that decides, each once"
        )
    return tuple(found)


def _fallback(spec: Spec) -> dict[str, str]:
    if spec.body.get("fallback") is None:
        return {"decision": "REVIEW"}
    inner = spec.inner("fallback")
    inner.take(required=("decision",))
    return {"decision": inner.one_of("decision", DECISIONS)}


def _routing(spec: Spec, service: str) -> Segments | None:
    if spec.body.get("routing") is None:
        return None
    routing = spec.inner("routing")
    routing.take(required=("field", "services"))
    field = routing.one_of("field", tuple(SEGMENT_FIELDS))
    services = routing.inner("services")
    for value in services.body:
        one = Segments(field, {value: services.string(value)})
        if problem := one.problem(service):
            raise services.wrong(value, problem, f"write a {field} and the name of another service")
    found = Segments(field, dict(services.body))
    if problem := found.problem(service):
        raise routing.wrong("services", problem, "write one segment a line, such as `FR: fraud-fr`")
    return found
