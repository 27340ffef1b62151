"""YAML as people write it, without what surprises reviewers.

Refused with line and remedy: duplicate keys, anchors and aliases, tags, several documents,
non-string keys, look-alike and control characters in keys, values that are not plain data.
Timestamps and the YAML 1.1 booleans (`yes`, `on`) stay strings.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import yaml

from interlock.base.errors import UsageError

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_./@-]+")


MAX_DEPTH = 32
"""Deeper text is no configuration: it is meant to exhaust the reader."""
_OPENS = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSES = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


class YamlError(UsageError):
    """A YAML text that breaks a rule; `line` is 1-based."""

    def __init__(self, source: str, line: int, problem: str, remedy: str) -> None:
        super().__init__(f"{source}:{line}: {problem}", remedy)
        self.source = source
        self.line = line


class Mapping(dict[str, Any]):
    """A mapping that remembers on which line each of its keys stands."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}
        self.line = 1


def load(text: str, source: str) -> Any:
    """Parse one strict document.

    Args:
        text: the file's text.
        source: its name, for messages.

    Returns:
        `Mapping`, list, str, int, float, bool or None.

    Raises:
        YamlError: with the line and the remedy.
    """
    _refuse_controls(text, source)
    try:
        depth = 0
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            depth += isinstance(token, _OPENS) - isinstance(token, _CLOSES)
            if depth > MAX_DEPTH:
                raise YamlError(source, token.start_mark.line + 1, f"more than {MAX_DEPTH} levels", "write it flatter")
            if isinstance(token, yaml.AnchorToken | yaml.AliasToken | yaml.TagToken):
                raise YamlError(
                    source,
                    token.start_mark.line + 1,
                    "anchors, aliases and tags are not allowed",
                    "write the value out",
                )
        nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise YamlError(source, line, error.problem or "not YAML", "correct the syntax") from error
    except yaml.YAMLError as error:
        raise YamlError(source, 1, "characters that YAML does not know", "write plain text") from error
    if len(nodes) != 1 or nodes[0] is None:
        raise YamlError(source, 1, f"{len(nodes)} documents", "write exactly one document")
    return _value(nodes[0], source)


def _refuse_controls(text: str, source: str) -> None:
    for number, line in enumerate(text.split("\n"), start=1):
        if any(_invisible(c) for c in line):
            raise YamlError(source, number, "a control or invisible character", "remove it")


def _invisible(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") and character not in "\t\r"


def _value(node: yaml.Node, source: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, source)
    if isinstance(node, yaml.SequenceNode):
        return [_value(child, source) for child in node.value]
    return _scalar(node, source)


def _mapping(node: yaml.MappingNode, source: str) -> Mapping:
    found = Mapping()
    found.line = node.start_mark.line + 1
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = key_node.value
        if not isinstance(key_node, yaml.ScalarNode) or not _PLAIN_KEY.fullmatch(key):
            raise YamlError(source, line, "a key with unusual characters", "use ASCII letters, digits and _./@-")
        if key in found:
            raise YamlError(source, line, f"duplicate key {key}", "keep one of the two")
        found[key] = _value(value_node, source)
        found.lines[key] = line
    return found


def _scalar(node: yaml.Node, source: str) -> Any:
    text: str = node.value
    if not isinstance(node, yaml.ScalarNode) or node.style is not None:
        return text
    if text in ("", "null", "~"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"-?(0|[1-9][0-9]*)", text):
        return int(text)
    if re.fullmatch(r"-?(0|[1-9][0-9]*)\.[0-9]+([eE][-+]?[0-9]+)?", text):
        return float(text)
    return text
