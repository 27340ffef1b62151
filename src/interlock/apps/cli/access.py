"""`interlock access`: API keys of the scoring API, and who may do what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.apps.cli.output import EXIT_FAILED, Output, emit, note, rows

if TYPE_CHECKING:
    from interlock.settings import Settings
    from interlock.trust.access import Access
    from interlock.trust.event import NewEvent
    from interlock.trust.principal import KeyGrant, Services

_MAX_DAYS = 366
_Person = Annotated[str | None, typer.Option("--person", help="Who does it; the login name if not given.")]


def register(app: typer.Typer) -> None:
    """Add the noun."""
    noun = typer.Typer(help="Who may do what: API keys, roles.", no_args_is_help=True, rich_markup_mode=None)
    noun.command("check")(check)
    noun.command("roles")(roles)
    key = typer.Typer(help="API keys.", no_args_is_help=True, rich_markup_mode=None)
    key.command("new")(new)
    key.command("revoke")(revoke)
    key.command("list")(listing)
    noun.add_typer(key, name="key")
    app.add_typer(noun, name="access")


def new(
    name: Annotated[str, typer.Argument(help="Whose key: decisions and limits carry this name.")],
    granted: Annotated[list[str], typer.Option("--roles", help="Such as score,explain; see `access roles`.")],
    services: Annotated[list[str], typer.Option("--services", help="Such as fraud; `all` for every one.")],
    expires: Annotated[str, typer.Option(help="After how long: 90d or 12h, a year at most.")] = "90d",
    person: _Person = None,
    output: Output = "table",
) -> None:
    """Make an API key, grant it, and print its secret: this once, since only its digest is kept."""
    from interlock import settings
    from interlock.adapters.files.grants import editing
    from interlock.apps.control.client import ControlClient
    from interlock.base.clock import NS_PER_S, SystemClock
    from interlock.base.ids import SystemIds
    from interlock.trust import access_edit, apikey
    from interlock.trust.principal import KeyGrant

    current, now_ns = settings.load(), SystemClock().now_ns()
    made = apikey.mint(SystemIds().random(apikey.ID_BYTES + apikey.SECRET_BYTES))
    until_ns = (now_ns // NS_PER_S) * NS_PER_S + _lasting(expires)
    grant = KeyGrant(made.id, name, made.digest, frozenset(_words(granted)), _services(services), until_ns)
    with editing(current.places.trust) as file, ControlClient.open(current) as client:
        before = file.read()
        data = access_edit.with_key(before, grant)
        # First the event: a grant that nobody recorded must not exist, a record of one that failed may.
        client.append(_event("access.granted", grant, person, data))
        file.write(data)
    if before is None:
        note("trust/access.yaml is new: from now on callers without a credential are refused")
    if output != "json":
        note("keep the key now: it is shown this once")
    emit(output, {**_told(grant), "key": made.text})


def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id: what stands between `ilk_` and `_`.")],
    person: _Person = None,
    output: Output = "table",
) -> None:
    """Take a key back; running scorers refuse it within a second."""
    from interlock import settings
    from interlock.adapters.files.grants import editing
    from interlock.apps.control.client import ControlClient
    from interlock.base.errors import RefusedError
    from interlock.trust import access_edit
    from interlock.trust.access import Access

    current = settings.load()
    with editing(current.places.trust) as file:
        before = file.read()
        if before is None:
            raise RefusedError("there is no trust/access.yaml, and so no key", "make one: `interlock access key new`")
        data = access_edit.without_key(before, key_id)
        file.write(data)
        grant = Access.parse(before).keys[key_id]
        with ControlClient.open(current) as client:
            client.append(_event("access.revoked", grant, person, data))
    emit(output, {**_told(grant), "revoked": True})


def listing(output: Output = "table") -> None:
    """All keys, by name; never their secrets, which are not kept."""
    from interlock import settings
    from interlock.base.clock import SystemClock

    now_ns = SystemClock().now_ns()
    access = _access(settings.load())
    found = [
        {**_told(key), "expired": now_ns >= key.expires_ns}
        for key in sorted(access.keys.values(), key=lambda key: (key.name, key.id))
    ]
    columns = ("name", "id", "roles", "services", "expires", "expired")
    emit(output, {"keys": found}, lambda: rows(columns, [[key[column] for column in columns] for key in found]))


def check(
    key: Annotated[str, typer.Option(help="An API key; `-` reads it from stdin, where no process list shows it.")] = "",
    action: Annotated[str, typer.Option(help="Ask for this action, such as predict.")] = "",
    service: Annotated[str, typer.Option(help="... on this service.")] = "",
    output: Output = "table",
) -> None:
    """Check the access file, and what a key may do (nobody in particular without one). Exit code 1: it may not."""
    import sys

    from interlock import settings
    from interlock.base.clock import SystemClock
    from interlock.base.errors import UsageError
    from interlock.trust.grants import ACTIONS

    access = _access(settings.load())
    if action and action not in ACTIONS:
        raise UsageError("an unknown action", f"known: {', '.join(ACTIONS)}")
    text = sys.stdin.readline().strip() if key == "-" else key
    who = access.by_key(text, SystemClock().now_ns()) if text else access.anonymous
    allowed = [each for each in ACTIONS if access.allows(who, each, service) and action in ("", each)]
    told = {
        "principal": who.name,
        "kind": who.kind,
        "roles": sorted(who.roles),
        "services": _shown(who.services),
        "actions": allowed,
        "file": access.digest or "none: this machine alone, anybody may score",
    }
    emit(output, told)
    if action and action not in allowed:
        raise SystemExit(EXIT_FAILED)


def roles(output: Output = "table") -> None:
    """The table of roles and the actions that each allows."""
    from interlock.trust.grants import ROLES

    found = {role: sorted(actions) for role, actions in ROLES.items()}
    emit(output, {"roles": found}, lambda: rows(("role", "actions"), [(r, ", ".join(a)) for r, a in found.items()]))


def _access(current: Settings) -> Access:
    from interlock.trust.access import Access

    try:
        return Access.parse((current.places.trust / "access.yaml").read_bytes())
    except FileNotFoundError:
        return Access.unconfigured()


def _words(given: list[str]) -> list[str]:
    return [word.strip() for each in given for word in each.split(",") if word.strip()]


def _services(given: list[str]) -> Services:
    words = _words(given)
    return None if words == ["all"] else frozenset(words)


def _lasting(text: str) -> int:
    """A lifetime in ns."""
    from interlock.base.clock import NS_PER_S
    from interlock.base.errors import UsageError

    number, unit = text[:-1], {"d": 86_400, "h": 3_600}.get(text[-1:])
    if unit is None or not number.isascii() or not number.isdigit() or not 0 < int(number) * unit <= _MAX_DAYS * 86_400:
        raise UsageError("no lifetime of a key", f"write such as 90d or 12h, at most {_MAX_DAYS}d")
    return int(number) * unit * NS_PER_S


def _told(grant: KeyGrant) -> dict[str, Any]:
    from interlock.base.clock import rfc3339

    return {
        "id": grant.id,
        "name": grant.name,
        "roles": sorted(grant.roles),
        "services": _shown(grant.services),
        "expires": rfc3339(grant.expires_ns),
    }


def _shown(services: Services) -> str | list[str]:
    return "all" if services is None else sorted(services)


def _event(kind: str, grant: KeyGrant, person: str | None, data: bytes) -> NewEvent:
    import getpass

    from interlock.base.canonical import digest_of
    from interlock.trust.event import NewEvent

    return NewEvent(
        time_ns=0,  # the control API stamps it
        type=kind,
        actor=person or getpass.getuser(),
        origin="cli",
        object=f"access/key/{grant.id}",
        outcome="success",
        body={**_told(grant), "file": digest_of(data)},
    )
