"""Message classes straight from our `.proto` files: no compiler, no generated code.

Contract. Reads the part of proto3 that those files use: messages and enums (nested or not), scalar
and message fields, `repeated`, `map`, `oneof`, unary `rpc`s; anything else raises ValueError. The
classes live in a descriptor pool of their own: protobuf's default pool holds one definition of a
name per process, and a client library loaded beside us declares `inference.*` there too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*|[0-9]+|\"[^\"]*\"|[{}()<>=;,]")
_COMMENT = re.compile(r"//[^\n]*")
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    name: getattr(_FIELD, f"TYPE_{name.upper()}")
    for name in ("bool", "int32", "int64", "uint32", "uint64", "float", "double", "string", "bytes")
}


@dataclass(frozen=True)
class Rpc:
    """One unary method: its path on the wire and the classes of its two messages."""

    path: str
    request: Any
    response: Any


@dataclass(frozen=True)
class Schema:
    """What one file declares.

    Attributes:
        messages: class by name; a nested one as `Outer.Inner`.
        rpcs: by method name.
    """

    messages: Mapping[str, Any]
    rpcs: Mapping[str, Rpc]


def load(file: str) -> Schema:
    """The schema in one of this folder's files."""
    return parse(files(__package__).joinpath(file).read_text("utf-8"), file)


def parse(text: str, name: str) -> Schema:
    """The schema in a text.

    Args:
        text: a file in the part of proto3 that the module's contract states.
        name: of the file, for the pool.

    Raises:
        ValueError: the text is something else.
    """
    reader = _Reader(_tokens(text))
    described = descriptor_pb2.FileDescriptorProto(name=name, syntax="proto3")
    while reader.more():
        _top(reader, described)
    pool = descriptor_pool.DescriptorPool()
    try:
        pool.AddSerializedFile(described.SerializeToString())
    except TypeError as error:
        raise ValueError(str(error)) from error
    found = pool.FindFileByName(name)
    classes: dict[str, Any] = {}
    for each in found.message_types_by_name.values():
        _collect(each, each.name, classes)
    return Schema(
        classes,
        {
            method.name: Rpc(
                f"/{service.full_name}/{method.name}",
                classes[method.input_type.name],
                classes[method.output_type.name],
            )
            for service in found.services_by_name.values()
            for method in service.methods
        },
    )


@dataclass
class _Reader:
    """The tokens, and how far they are read."""

    tokens: list[str]
    at: int = field(default=0)

    def more(self) -> bool:
        return self.at < len(self.tokens)

    def take(self, *wanted: str) -> str:
        """The next token; ValueError when it is not one of `wanted` (none: any)."""
        if not self.more():
            raise ValueError("the text ends too early")
        token = self.tokens[self.at]
        if wanted and token not in wanted:
            raise ValueError(f"{token!r} where {' or '.join(wanted)} should be")
        self.at += 1
        return token

    def skip(self, token: str) -> bool:
        """Whether `token` was next; it is taken then."""
        found = self.more() and self.tokens[self.at] == token
        self.at += found
        return found

    def block(self) -> Iterator[str]:
        """First tokens of the statements between braces; the caller reads the rest of each."""
        self.take("{")
        while not self.skip("}"):
            yield self.take()


def _tokens(text: str) -> list[str]:
    bare = _COMMENT.sub("", text)
    strange = _TOKEN.sub("", bare).strip()
    if strange:
        raise ValueError(f"unreadable: {strange[:20]!r}")
    return _TOKEN.findall(bare)


def _top(reader: _Reader, file: descriptor_pb2.FileDescriptorProto) -> None:
    word = reader.take("syntax", "package", "service", "message")
    if word == "syntax":
        reader.take("=")
        reader.take('"proto3"')
        reader.take(";")
    elif word == "package":
        file.package = reader.take()
        reader.take(";")
    elif word == "service":
        _service(reader, file.service.add(name=reader.take()))
    else:
        _message(reader, file.message_type.add(name=reader.take()))


def _service(reader: _Reader, service: Any) -> None:
    for word in reader.block():
        if word != "rpc":
            raise ValueError(f"{word!r} in a service")
        name = reader.take()
        reader.take("(")
        request = reader.take()
        reader.take(")")
        reader.take("returns")
        reader.take("(")
        service.method.add(name=name, input_type=request, output_type=reader.take())
        reader.take(")")
        reader.take(";")


def _message(reader: _Reader, message: Any) -> None:
    for word in reader.block():
        if word == "message":
            _message(reader, message.nested_type.add(name=reader.take()))
        elif word == "enum":
            _enum(reader, message.enum_type.add(name=reader.take()))
        elif word == "oneof":
            message.oneof_decl.add(name=reader.take())
            for kind in reader.block():
                _field(reader, message, kind).oneof_index = len(message.oneof_decl) - 1
        elif word == "map":
            _map(reader, message)
        elif word == "repeated":
            _field(reader, message, reader.take()).label = _FIELD.LABEL_REPEATED
        else:
            _field(reader, message, word)


def _enum(reader: _Reader, enum: Any) -> None:
    for name in reader.block():
        reader.take("=")
        enum.value.add(name=name, number=int(reader.take()))
        reader.take(";")


def _field(reader: _Reader, message: Any, kind: str) -> Any:
    name = reader.take()
    reader.take("=")
    made = message.field.add(name=name, number=int(reader.take()), label=_FIELD.LABEL_OPTIONAL)
    reader.take(";")
    _typed(made, kind)
    return made


def _map(reader: _Reader, message: Any) -> None:
    reader.take("<")
    key = reader.take()
    reader.take(",")
    value = reader.take()
    reader.take(">")
    place = reader.at
    entry = "".join(part.capitalize() for part in reader.tokens[place].split("_")) + "Entry"
    _field(reader, message, entry).label = _FIELD.LABEL_REPEATED
    nested = message.nested_type.add(name=entry)
    nested.options.map_entry = True
    for number, (name, kind) in enumerate((("key", key), ("value", value)), start=1):
        _typed(nested.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL), kind)


def _typed(made: Any, kind: str) -> None:
    """A scalar's type, or a name that the pool resolves, innermost scope first."""
    if kind in _SCALARS:
        made.type = _SCALARS[kind]
    else:
        made.type_name = kind


def _collect(descriptor: Any, name: str, into: dict[str, Any]) -> None:
    into[name] = message_factory.GetMessageClass(descriptor)
    for nested in descriptor.nested_types:
        _collect(nested, f"{name}.{nested.name}", into)
