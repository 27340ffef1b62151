"""Adds a key to `trust/access.yaml` and takes one away, leaving every other line as people wrote it.

Contract. Text is edited, and the result is read again: it must say exactly what was said before, plus
or minus that one key, or the edit is refused and nothing is written. A layout that this module does not
understand is therefore an error, never a loss.
"""

from __future__ import annotations

import json
from dataclasses import replace

from interlock.base import strict_yaml
from interlock.base.clock import rfc3339
from interlock.base.errors import RefusedError, UsageError
from interlock.trust import access_file
from interlock.trust.access_file import API_VERSION, KIND, SOURCE, Written
from interlock.trust.principal import KeyGrant

_NEW = f"""# Who may do what; what is not granted here is refused. Roles: `interlock access roles`.
apiVersion: {API_VERSION}
kind: {KIND}
spec:
  anonymous: {{roles: []}}
  keys: []
"""


def with_key(data: bytes | None, grant: KeyGrant) -> bytes:
    """The file with one key more.

    Args:
        data: the file; None: there is none yet.
        grant: the key; its expiry in whole microseconds, which is what the file can say.

    Raises:
        UsageError: the file breaks a rule, has the key already, or is laid out in another way.
    """
    access_file.read(
        _NEW.replace(" []\n", f"\n    {_line(grant)}\n").encode()
    )  # says what is wrong with the key itself
    text = _NEW if data is None else _text(data)
    before = access_file.read(text.encode())
    if any(key.id == grant.id for key in before.keys):
        raise UsageError("a key of that id is there already", "make another")
    lines = text.split("\n")
    spec = strict_yaml.load(text, SOURCE)["spec"]
    if "keys" in spec:
        at = spec.lines["keys"]
        margin = _indent(lines[at - 1])
        if spec["keys"]:
            dash = _indent(lines[spec["keys"][0].line - 1])
        else:
            lines[at - 1], dash = f"{' ' * margin}keys:", margin + 2
        lines.insert(at, " " * dash + _line(grant))
    else:
        first = min(spec.lines.values(), default=spec.line)
        margin = _indent(lines[first - 1])
        lines[first - 1 : first - 1] = [f"{' ' * margin}keys:", " " * (margin + 2) + _line(grant)]
    return _checked(lines, replace(before, keys=(grant, *before.keys)), "add the key's line by hand")


def without_key(data: bytes, key_id: str) -> bytes:
    """The file without that key.

    Raises:
        RefusedError: it has none of that id.
        UsageError: the file breaks a rule, or is laid out in another way.
    """
    text = _text(data)
    before = access_file.read(data)
    if all(key.id != key_id for key in before.keys):
        raise RefusedError("no key of that id", "see `interlock access key list`")
    lines = text.split("\n")
    spec = strict_yaml.load(text, SOURCE)["spec"]
    (entry,) = (each for each in spec["keys"] if each["id"] == key_id)
    start = stop = entry.line - 1
    dash = _indent(lines[start])
    stop += 1
    while stop < len(lines) and lines[stop].strip() and _indent(lines[stop]) > dash:
        stop += 1
    del lines[start:stop]
    left = tuple(key for key in before.keys if key.id != key_id)
    if not left:
        at = spec.lines["keys"] - 1
        lines[at] = f"{' ' * _indent(lines[at])}keys: []"
    return _checked(lines, replace(before, keys=left), "take the key's lines out by hand")


def _checked(lines: list[str], wanted: Written, remedy: str) -> bytes:
    data = "\n".join(lines).encode()
    try:
        same = access_file.read(data) == wanted
    except UsageError:
        same = False
    if not same:
        raise UsageError(f"{SOURCE} is laid out in a way that cannot be edited safely", remedy)
    return data


def _line(grant: KeyGrant) -> str:
    services = "all" if grant.services is None else f"[{', '.join(map(json.dumps, sorted(grant.services)))}]"
    fields = {
        "id": json.dumps(grant.id),
        "name": json.dumps(grant.name),
        "sha256": json.dumps(grant.sha256.hex()),
        "roles": f"[{', '.join(sorted(grant.roles))}]",
        "services": services,
        "expires": json.dumps(rfc3339(grant.expires_ns)),
    }
    return f"- {{{', '.join(f'{name}: {value}' for name, value in fields.items())}}}"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{SOURCE}: not UTF-8", "save it as UTF-8") from error
