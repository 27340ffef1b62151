"""The reader of one strict YAML document: known keys, right types, and words for what is wrong.

Used by everything that is read from a release repository. Every refusal names file, line and remedy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from interlock.base import strict_yaml
from interlock.base.canonical import digest_hex
from interlock.base.errors import UsageError
from interlock.base.strict_yaml import YamlError

API = "interlock.dev/v1alpha1"

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SERVICE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def seconds(text: Any) -> float | None:
    """A duration such as `3s`, `1.5m`, `30m`; None when it is none."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    return float(found[1]) * _UNITS[found[2]] if found else None


class Spec:
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

    def inner(self, key: str) -> Spec:
        """The mapping below a key."""
        line = self.body.lines.get(key, self.body.line)
        return Spec(self.body.get(key), self.source, line, f"{self._what}.{key}")

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


def document(text: str, source: str, api: str, kind: str) -> tuple[str, Spec]:
    """The name and the `spec` of a document of one kind.

    Raises:
        YamlError: with line and remedy.
    """
    top = Spec(strict_yaml.load(text, source), source, 1, kind)
    top.take(required=("apiVersion", "kind", "metadata", "spec"))
    top.one_of("apiVersion", (api,))
    top.one_of("kind", (kind,))
    metadata = top.inner("metadata")
    metadata.take(required=("name",), optional=("annotations", "labels", "namespace"))
    name = metadata.string("name")
    if not _SERVICE.fullmatch(name):
        raise metadata.wrong("name", "not a service name", "use lower-case letters, digits and dashes, 63 at most")
    return name, top.inner("spec")
