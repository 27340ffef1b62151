"""The manifests of a release, read strictly: what decides, how it may change, what it runs on.

Unknown keys, missing keys, wrong types and values out of range are refused with file, line and
remedy. A manifest states the whole wish; nothing is taken from elsewhere but the defaults below.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from interlock.base import strict_yaml
from interlock.base.canonical import digest_hex
from interlock.base.errors import UsageError
from interlock.base.strict_yaml import YamlError
from interlock.decision.table import SEGMENT_FIELDS, Segments
from interlock.rollout.guards import GUARDS, defaults
from interlock.rollout.plan import ALL, GuardSetting, Plan, Step
from interlock.rollout.ports import SourceFile

API = "interlock.dev/v1alpha1"
FILES = ("inferenceservice.yaml", "release.yaml", "rollout.yaml")
STRATEGIES = ("canary", "blue-green")
ADVANCES = ("timeline",)
DECISIONS = ("APPROVE", "STEP_UP", "REVIEW", "DECLINE")
DEFAULT_BUDGET = 0.01
DEFAULT_DEADLINE_S = 600.0
DEFAULT_HOLDBACK = 0.05
DEFAULT_WATCH_S = 1800.0

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = r"(0|[1-9][0-9]*)"
_VERSION = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_SERVICE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Release(msgspec.Struct, frozen=True):
    """`release.yaml`: which version decides."""

    service: str
    version: str
    bundle: str
    feature_set: str
    threshold_set: str
    fallback: dict[str, str]
    shadows: tuple[str, ...] = ()
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
    name, spec = _document(text, source, API, "Release")
    known = ("version", "bundle", "featureSet", "thresholdSet")
    given = spec.take(required=known, optional=("fallback", "shadows", "routing"))
    version = spec.string("version")
    if not _VERSION.fullmatch(version):
        raise spec.wrong("version", "not a semantic version", "write MAJOR.MINOR.PATCH, in quotes")
    digests = {key: spec.digest(key) for key in ("bundle", "featureSet", "thresholdSet")}
    if given.get("shadows") not in (None, []):
        raise spec.wrong("shadows", "standing shadows are not supported yet", "write `shadows: []`")
    return Release(
        name,
        version,
        digests["bundle"],
        digests["featureSet"],
        digests["thresholdSet"],
        _fallback(spec),
        routing=_routing(spec, name),
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


def parse_policy(text: str, source: str) -> Plan:
    """`rollout.yaml`."""
    _, spec = _document(text, source, API, "RolloutPolicy")
    spec.take(required=("strategy", "steps"), optional=("advance", "watch", "guards", "budget", "deadline"))
    strategy = spec.one_of("strategy", STRATEGIES)
    advance = spec.one_of("advance", ADVANCES, "timeline")
    shadow_s, steps = _steps(spec)
    if strategy == "blue-green" and steps:
        raise spec.wrong("steps", "blue-green has weights", "keep the shadow step alone, or use strategy: canary")
    holdback, watch_s = _watch(spec)
    budget = spec.number("budget", DEFAULT_BUDGET, 0.0001, 0.2)
    return Plan(
        shadow_s=shadow_s,
        steps=steps,
        holdback=round(holdback * ALL),
        watch_s=watch_s,
        deadline_s=spec.duration("deadline", DEFAULT_DEADLINE_S),
        guards=_guards(spec, budget),
        strategy=strategy,
        advance=advance,
    )


def parse_inference_service(text: str, source: str) -> str:
    """`inferenceservice.yaml` (KServe v1beta1): its name; on one machine it names no image."""
    name, spec = _document(text, source, "serving.kserve.io/v1beta1", "InferenceService")
    spec.take(required=("predictor",), optional=("transformer", "explainer"))
    return name


def seconds(text: Any) -> float | None:
    """A duration such as `3s`, `1.5m`, `30m`; None when it is none."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    return float(found[1]) * _UNITS[found[2]] if found else None


class _Spec:
    """One mapping of a document with the words to refuse what is wrong in it."""

    def __init__(self, body: Any, source: str, line: int, what: str) -> None:
        if not isinstance(body, strict_yaml.Mapping):
            raise YamlError(source, line, f"{what} is not a mapping", "write keys and values below it")
        self.body = body
        self.source = source
        self._what = what

    def wrong(self, key: str, problem: str, remedy: str) -> YamlError:
        """The error for a key of this mapping."""
        line = self.body.lines.get(key, self.body.line)
        return YamlError(self.source, line, f"{self._what}.{key}: {problem}", remedy)

    def take(self, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> Mapping[str, Any]:
        """The mapping itself, once its keys are those that are known."""
        known = ", ".join((*required, *optional))
        for key in self.body:
            if key not in required and key not in optional:
                raise self.wrong(key, "unknown key", f"known here: {known}")
        for key in required:
            if self.body.get(key) is None:
                raise self.wrong(key, "missing", f"write it; required here: {', '.join(required)}")
        return self.body

    def inner(self, key: str) -> _Spec:
        """The mapping below a key."""
        line = self.body.lines.get(key, self.body.line)
        return _Spec(self.body.get(key), self.source, line, f"{self._what}.{key}")

    def string(self, key: str) -> str:
        """A non-empty string."""
        value = self.body.get(key)
        if not isinstance(value, str) or not value:
            raise self.wrong(key, "not a string", "write it in quotes")
        return value

    def digest(self, key: str) -> str:
        """A sha256 digest."""
        value = self.string(key)
        try:
            digest_hex(value)
        except UsageError as error:
            raise self.wrong(key, "not a sha256 digest", error.remedy) from error
        return value

    def one_of(self, key: str, known: tuple[str, ...], default: str | None = None) -> str:
        """One of the known words."""
        value = self.body.get(key, default)
        if value not in known:
            raise self.wrong(key, "unknown value", f"known: {', '.join(known)}")
        return str(value)

    def number(self, key: str, default: float, low: float, high: float) -> float:
        """A number within bounds."""
        value = self.body.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.wrong(key, f"not a number from {low:g} to {high:g}", "write a number in that range")
        return float(value)

    def duration(self, key: str, default: float) -> float:
        """A positive duration in seconds."""
        if key not in self.body:
            return default
        value = seconds(self.body[key])
        if value is None or value <= 0:
            raise self.wrong(key, "not a duration", "write a number with ms, s, m or h, such as 30m")
        return value


def _text(file: SourceFile) -> str:
    try:
        return file.data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise YamlError(file.path, 1, "not UTF-8", "save the file as UTF-8") from error


def _document(text: str, source: str, api: str, kind: str) -> tuple[str, _Spec]:
    top = _Spec(strict_yaml.load(text, source), source, 1, kind)
    top.take(required=("apiVersion", "kind", "metadata", "spec"))
    top.one_of("apiVersion", (api,))
    top.one_of("kind", (kind,))
    metadata = top.inner("metadata")
    metadata.take(required=("name",), optional=("annotations", "labels", "namespace"))
    name = metadata.string("name")
    if not _SERVICE.fullmatch(name):
        raise metadata.wrong("name", "not a service name", "use lower-case letters, digits and dashes, 63 at most")
    return name, top.inner("spec")


def _fallback(spec: _Spec) -> dict[str, str]:
    if spec.body.get("fallback") is None:
        return {"decision": "REVIEW"}
    inner = spec.inner("fallback")
    inner.take(required=("decision",))
    return {"decision": inner.one_of("decision", DECISIONS)}


def _routing(spec: _Spec, service: str) -> Segments | None:
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


def _steps(spec: _Spec) -> tuple[float, tuple[Step, ...]]:
    rows = spec.body.get("steps")
    if not isinstance(rows, list):
        raise spec.wrong("steps", "not a list", "write `steps: []` or one step a line")
    shadow_s = 0.0
    steps: list[Step] = []
    for number, row in enumerate(rows):
        one = _Spec(row, spec.source, spec.body.lines["steps"], f"steps[{number}]")
        if "shadow" in one.body:
            one.take(required=("shadow",))
            if number:
                raise one.wrong("shadow", "shadow is not the first step", "shadow first, then weights")
            shadow_s = one.duration("shadow", 0.0)
            continue
        share = round(_weight(one) * ALL / 100)
        if steps and share <= steps[-1].share:
            raise one.wrong("weight", "weights do not rise", "write rising weights")
        if share < ALL:
            steps.append(Step(share, one.duration("for", 0.0)))
    return shadow_s, tuple(steps)


def _weight(one: _Spec) -> float:
    last = one.body.get("weight") == 100
    one.take(required=("weight",) if last else ("weight", "for"), optional=("for",) if last else ())
    return one.number("weight", 0.0, 0.01, 100.0)


def _watch(spec: _Spec) -> tuple[float, float]:
    if "watch" not in spec.body:
        return DEFAULT_HOLDBACK, DEFAULT_WATCH_S
    watch = spec.inner("watch")
    watch.take(required=(), optional=("holdback", "for"))
    return watch.number("holdback", DEFAULT_HOLDBACK, 0.0, 0.5), watch.duration("for", DEFAULT_WATCH_S)


def _guards(spec: _Spec, budget: float) -> dict[str, GuardSetting]:
    settings = defaults(budget)
    if spec.body.get("guards") is None:
        return settings
    guards = spec.inner("guards")
    guards.take(required=(), optional=tuple(guard.name for guard in GUARDS))
    for name in guards.body:
        one = guards.inner(name)
        one.take(required=(), optional=("margin", "budget"))
        default = settings[name]
        settings[name] = GuardSetting(
            one.number("margin", default.margin, 1.0, 10.0), one.number("budget", default.alpha, 0.00001, 0.1)
        )
    if sum(setting.alpha for setting in settings.values()) > budget * 1.000001:
        raise spec.wrong("guards", "the guards spend more than the budget", "lower their budgets or raise spec.budget")
    return settings
