"""Tensors of the Open Inference Protocol, written for the suite alone.

Contract. Nothing here is shared with the server's own code: a suite that used the server's encoder
would agree with its mistakes. Pure. Little-endian, row-major; `BYTES` elements are framed by a
uint32 length (binary tensor data extension).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

FORMATS: Mapping[str, str] = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
"""Datatype to its `struct` letter; BYTES has none."""
DATATYPES = frozenset(FORMATS) | {"BYTES"}


class Unreadable(Exception):
    """Bytes or JSON that are not the tensor they claim to be, and why."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One input tensor; `data` is flat, BYTES elements are text."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: tuple[Any, ...]

    def as_json(self, nested: bool = False, **changes: Any) -> dict[str, Any]:
        """As `$request_input` with its data in JSON."""
        data = nest(self.data, self.shape) if nested else list(self.data)
        return {"name": self.name, "shape": list(self.shape), "datatype": self.datatype, "data": data} | changes

    def as_binary(self, **changes: Any) -> dict[str, Any]:
        """As `$request_input` whose data follows the JSON."""
        size = {"binary_data_size": len(self.packed())}
        return {
            "name": self.name,
            "shape": list(self.shape),
            "datatype": self.datatype,
            "parameters": size,
        } | changes

    def packed(self) -> bytes:
        """The data in its binary form."""
        return pack(self.datatype, self.data)

    def twice(self) -> Sample:
        """The same rows two times along the first dimension."""
        return replace(self, shape=(2 * self.shape[0], *self.shape[1:]), data=self.data * 2)


@dataclass(frozen=True, slots=True)
class Output:
    """One output tensor as the client reads it."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: tuple[Any, ...]


def size(shape: Sequence[int]) -> int:
    """How many elements a shape has."""
    return math.prod(shape)


def pack(datatype: str, data: Iterable[Any]) -> bytes:
    """Elements in binary form."""
    if datatype == "BYTES":
        parts = [each.encode() if isinstance(each, str) else bytes(each) for each in data]
        return b"".join(struct.pack("<I", len(part)) + part for part in parts)
    values = list(data)
    return struct.pack(f"<{len(values)}{FORMATS[datatype]}", *values)


def unpack(datatype: str, data: bytes) -> tuple[Any, ...]:
    """Elements from binary form; BYTES elements are read as UTF-8 text.

    Raises:
        Unreadable: they do not fill the bytes exactly.
    """
    if datatype == "BYTES":
        return tuple(_framed(data))
    width = struct.calcsize(f"<{FORMATS[datatype]}")
    if len(data) % width:
        raise Unreadable(f"{len(data)} bytes are no whole number of {datatype} elements")
    return struct.unpack(f"<{len(data) // width}{FORMATS[datatype]}", data)


def _framed(data: bytes) -> Iterable[str]:
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise Unreadable("a BYTES element ends within its length")
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        if at + length > len(data):
            raise Unreadable("a BYTES element is longer than its tensor")
        yield data[at : at + length].decode("utf-8", "replace")
        at += length


def nest(data: Sequence[Any], shape: Sequence[int]) -> list[Any]:
    """Flat row-major data as nested lists."""
    if len(shape) <= 1:
        return list(data)
    step = size(shape[1:])
    return [nest(data[start : start + step], shape[1:]) for start in range(0, size(shape), step)]


def flatten(data: Any, shape: Sequence[int]) -> tuple[Any, ...]:
    """Nested or flat JSON data as flat data.

    Raises:
        Unreadable: it is neither flat nor nested exactly as the shape says.
    """
    if not isinstance(data, list):
        raise Unreadable("data is no array")
    if not any(isinstance(each, list) for each in data):
        if len(data) != size(shape):
            raise Unreadable(f"data has {len(data)} elements, shape {list(shape)} has {size(shape)}")
        return tuple(data)
    if len(data) != shape[0]:
        raise Unreadable(f"data has {len(data)} rows, shape says {shape[0]}")
    return tuple(each for row in data for each in flatten(row, shape[1:]))


def fits(datatype: str, value: Any) -> bool:
    """Whether a JSON value is an element of that datatype."""
    if datatype == "BYTES":
        return isinstance(value, str)
    if datatype == "BOOL":
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if datatype.startswith("FP"):
        return True
    if not isinstance(value, int):
        return False
    low, high = ends(datatype)
    return bool(low <= value <= high)


def ends(datatype: str) -> tuple[Any, Any]:
    """The smallest and largest finite element of a numeric datatype."""
    if datatype == "BOOL":
        return False, True
    if datatype.startswith("FP"):
        most = {"FP16": 65504.0, "FP32": 3.4028234663852886e38, "FP64": 1.7976931348623157e308}[datatype]
        return -most, most
    bits = int(datatype.lstrip("UINT"))
    return (0, 2**bits - 1) if datatype.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def sample_of(metadata: Mapping[str, Any]) -> tuple[Sample, ...]:
    """A valid set of inputs as model metadata describes them: variable dimensions are 1, elements ones."""
    found = []
    for each in metadata.get("inputs") or []:
        name, datatype, shape = each.get("name"), each.get("datatype"), each.get("shape")
        if not isinstance(name, str) or datatype not in DATATYPES or not isinstance(shape, list):
            return ()
        whole = tuple(1 if dimension == -1 else int(dimension) for dimension in shape)
        found.append(Sample(name, datatype, whole, (_one(datatype),) * size(whole)))
    return tuple(found)


def samples_from(inputs: Sequence[Mapping[str, Any]]) -> tuple[Sample, ...]:
    """Inputs as an example file lists them (`$request_input` objects with JSON data).

    Raises:
        Unreadable: one is no tensor.
    """
    found = []
    for each in inputs:
        shape = tuple(each.get("shape", ()))
        if each.get("datatype") not in DATATYPES or not isinstance(each.get("name"), str):
            raise Unreadable("an input has no name or no known datatype")
        found.append(Sample(each["name"], each["datatype"], shape, flatten(each.get("data"), shape)))
    return tuple(found)


def _one(datatype: str) -> Any:
    if datatype == "BYTES":
        return "1"
    if datatype == "BOOL":
        return True
    return 1.0 if datatype.startswith("FP") else 1
