"""Settings of every process, composed from the rooms' options.

Read, later wins: the defaults in each room's `options.py`, `<home>/settings.yaml` (strict YAML,
one mapping per group), then the environment as `INTERLOCK_<GROUP>_<FIELD>`. An unknown group or
field is an error that lists the known ones. An edge clock other than real time is refused unless
`purpose` is `demo` or `replay`.

The places of one installation all lie under its home (`INTERLOCK_HOME`, default `./.interlock`).
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from interlock.base import strict_yaml
from interlock.base.clock import ClockOptions
from interlock.base.errors import IntegrityError, UsageError
from interlock.base.files import write_atomic
from interlock.features.options import StoreOptions
from interlock.governance.options import ExplainOptions
from interlock.rollout.options import ControlOptions, NotifyOptions, RolloutOptions
from interlock.serving.options import ServingOptions

Purpose = Literal["live", "demo", "replay"]
Endpoint = Literal["scoring", "grpc", "control", "admin", "store", "explain"]

_PREFIX = "INTERLOCK_"


@dataclass(frozen=True)
class Places:
    """Where one installation keeps its things."""

    home: Path

    @property
    def bundles(self) -> Path:
        """Model bundles, by digest."""
        return self.home / "bundles"

    @property
    def admissions(self) -> Path:
        """Admission files, by bundle and folder digest."""
        return self.home / "admissions"

    @property
    def log(self) -> Path:
        """The transparency log: checkpoint and tiles."""
        return self.home / "log"

    @property
    def trust(self) -> Path:
        """Keys and the scorer's trust root."""
        return self.home / "trust"

    @property
    def segments(self) -> Path:
        """Decision segments and their seals."""
        return self.home / "segments"

    @property
    def tables(self) -> Path:
        """Dataset snapshots and other tables."""
        return self.home / "tables"

    @property
    def run(self) -> Path:
        """Sockets, logs and endpoints of the running processes."""
        return self.home / "run"

    @property
    def demo(self) -> Path:
        """What the demo writes."""
        return self.home / "demo"

    @property
    def events(self) -> Path:
        """The embedded events database."""
        return self.home / "events.db"

    @property
    def admin_socket(self) -> Path:
        """The supervisor's admin socket."""
        return self.run / "scorer.sock"

    @property
    def explain_socket(self) -> Path:
        """Where decisions are explained."""
        return self.run / "explain.sock"

    @property
    def endpoints(self) -> Path:
        """The addresses that the running processes really took."""
        return self.run / "endpoints.json"


@dataclass(frozen=True)
class Settings:
    """Everything that a process of this installation may be told."""

    home: Path
    purpose: Purpose = "live"
    """What this installation is for; `demo` and `replay` may set the edge clock."""
    scoring: ServingOptions = dataclasses.field(default_factory=ServingOptions)
    store: StoreOptions = dataclasses.field(default_factory=StoreOptions)
    rollout: RolloutOptions = dataclasses.field(default_factory=RolloutOptions)
    control: ControlOptions = dataclasses.field(default_factory=ControlOptions)
    notify: NotifyOptions = dataclasses.field(default_factory=NotifyOptions)
    explain: ExplainOptions = dataclasses.field(default_factory=ExplainOptions)
    clock: ClockOptions = dataclasses.field(default_factory=ClockOptions)

    @property
    def places(self) -> Places:
        """The folders and files of this home."""
        return Places(self.home)


GROUPS: Mapping[str, type] = {
    "scoring": ServingOptions,
    "store": StoreOptions,
    "rollout": RolloutOptions,
    "control": ControlOptions,
    "notify": NotifyOptions,
    "explain": ExplainOptions,
    "clock": ClockOptions,
}


def load(home: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of the installation at `home`.

    Args:
        home: its folder; None: `INTERLOCK_HOME`, else `./.interlock`.
        environ: the environment; None: the process's own.

    Raises:
        UsageError: naming the file's line or the variable, and the known fields.
    """
    environ = os.environ if environ is None else environ
    home = Path(os.path.abspath(home or environ.get("INTERLOCK_HOME") or ".interlock"))
    wanted = _from_file(home / "settings.yaml")
    for key, value in _from_environment(environ).items():
        wanted[key] = {**wanted.get(key, {}), **value} if isinstance(value, dict) else value
    return _compose(home, wanted)


def _compose(home: Path, wanted: dict[str, Any]) -> Settings:
    purpose = _purpose(wanted.pop("purpose", ("live", "default")))
    settings = Settings(home, purpose, **{group: _group(group, given) for group, given in wanted.items()})
    if purpose == "live" and settings.clock != ClockOptions():
        raise UsageError(
            "the edge clock of a live installation is real time", "remove the clock group, or set purpose: demo"
        )
    return settings


def write(home: Path, values: Mapping[str, Any]) -> None:
    """Write `<home>/settings.yaml` from plain values, checking them first.

    Raises:
        UsageError: a value that `load` would refuse.
    """
    text = "".join(_yaml_lines(values))
    _compose(home, _from_text(text, "settings.yaml"))
    write_atomic(home / "settings.yaml", text.encode())


def publish_endpoint(home: Path, name: Endpoint, value: str | None) -> None:
    """Record in run/endpoints.json where a process really listens; None withdraws the entry."""
    places = Places(home)
    places.run.mkdir(parents=True, exist_ok=True)
    lock = os.open(places.run / "endpoints.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = read_endpoints(home)
        found.pop(name, None)
        if value is not None:
            found[name] = value
        write_atomic(places.endpoints, json.dumps(found, sort_keys=True).encode())
    finally:
        os.close(lock)


def read_endpoints(home: Path) -> dict[str, str]:
    """The published addresses, by name; empty when nothing runs.

    Raises:
        IntegrityError: the file is not what `publish_endpoint` writes.
    """
    try:
        data = Places(home).endpoints.read_bytes()
    except FileNotFoundError:
        return {}
    try:
        return msgspec.json.decode(data, type=dict[str, str])
    except msgspec.DecodeError as error:
        raise IntegrityError("run/endpoints.json is damaged", "run `interlock down`, then `interlock up`") from error


_Given = dict[str, tuple[Any, str]]
"""Field -> (value, where it was written)."""


def _from_file(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    return _from_text(path.read_text(encoding="utf-8"), path.name)


def _from_text(text: str, name: str) -> dict[str, Any]:
    document = strict_yaml.load(text, name)
    if not isinstance(document, strict_yaml.Mapping):
        raise UsageError(f"{name}: not a mapping", f"write one mapping per group: {', '.join(GROUPS)}")
    found: dict[str, Any] = {}
    for group, body in document.items():
        where = f"{name}:{document.lines[group]}"
        if group == "purpose":
            found[group] = (body, where)
            continue
        if group not in GROUPS:
            raise UsageError(f"{where}: unknown group {group}", f"known: purpose, {', '.join(GROUPS)}")
        if not isinstance(body, strict_yaml.Mapping):
            raise UsageError(f"{where}: {group} is not a mapping", f"known fields: {_known(GROUPS[group])}")
        found[group] = {field: (value, f"{name}:{body.lines[field]}") for field, value in body.items()}
    return found


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable in sorted(environ):
        if variable == _PREFIX + "PURPOSE":
            found["purpose"] = (environ[variable], variable)
        group, _, name = variable.removeprefix(_PREFIX).lower().partition("_")
        if variable.startswith(_PREFIX) and group in GROUPS and name:
            found.setdefault(group, {})[name] = (environ[variable], variable)
    return found


def _purpose(given: tuple[Any, str]) -> Purpose:
    value, where = given
    if value not in get_args(Purpose):
        raise UsageError(f"{where}: unknown purpose", f"known: {', '.join(get_args(Purpose))}")
    purpose: Purpose = value
    return purpose


def _group(group: str, given: _Given) -> Any:
    options = GROUPS[group]
    hints = get_type_hints(options)
    for name, (_, where) in given.items():
        if name not in hints:
            raise UsageError(f"{where}: unknown field {group}.{name}", f"known: {_known(options)}")
    values = {name: _convert(value, hints[name], f"{where}: {group}.{name}") for name, (value, where) in given.items()}
    try:
        return options(**values)
    except ValueError as error:
        raise UsageError(f"{group}: {error}", "correct the value") from error


def _convert(value: Any, kind: Any, where: str) -> Any:
    if isinstance(value, str) and get_origin(kind) is tuple:
        value = [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, str) and get_origin(kind) is dict:
        # NAME=VALUE, NAME=VALUE: a value may hold further equals signs.
        value = dict(part.strip().partition("=")[::2] for part in value.split(",") if part.strip())
    try:
        return msgspec.convert(value, kind, strict=not isinstance(value, str), dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {error}", f"write a value of type {_type_name(kind)}") from error


def _decode(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(f"no settings of type {kind.__name__}")


def _type_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def _known(options: type) -> str:
    return ", ".join(each.name for each in fields(options))


def describe() -> list[tuple[str, str, str, str]]:
    """Every setting as (group, field, type, default), for `docs/reference/settings.md` and doctor."""
    found = []
    for group, options in GROUPS.items():
        hints = get_type_hints(options)
        for each in fields(options):
            default = "–" if each.default is None or each.default is MISSING else str(each.default)
            found.append((group, each.name, _type_name(hints[each.name]), default))
    return found


def _yaml_lines(values: Mapping[str, Any], indent: str = "") -> list[str]:
    found = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found.append(f"{indent}{key}:\n")
            found += _yaml_lines(value, indent + "  ")
        elif is_dataclass(value):
            raise UsageError(f"{key} is not a plain value", "hand in numbers, strings, lists and mappings")
        else:
            # JSON scalars and lists are YAML.
            found.append(f"{indent}{key}: {json.dumps(str(value) if isinstance(value, Path) else value)}\n")
    return found
