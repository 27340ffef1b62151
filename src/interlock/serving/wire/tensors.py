"""Shapes and raw bytes of tensors: what REST's binary extension and gRPC's raw contents have in common.

Contract. Raw data is little-endian and row-major; `BYTES` is one uint32 length and so many bytes per
element (OIP, binary tensor data extension). Nothing is allocated for a shape before its bytes are
known to be there, so a huge shape costs nothing. Everything wrong is a UsageError that names the
place (`at`) and never a value.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.base.errors import UsageError
from interlock.serving.wire.oip import DATATYPES, Tensor

MAX_INPUTS = 512
"""Tensors of one request; a model with one tensor per feature needs one each."""
MAX_OUTPUTS = 64
MAX_DIMS = 8
MAX_DIM = 2**31 - 1
MAX_ELEMENTS = 2**22
MAX_NAME = 128
MAX_STRING = 65_536
"""Bytes in one element of `BYTES`."""
MAX_PARAMETERS = 64

_KNOWN = f"known: {', '.join((*DATATYPES, 'BYTES'))}"
_LENGTH = struct.Struct("<I")


def count(shape: Sequence[int], at: str) -> int:
    """Elements of a shape.

    Raises:
        UsageError: no or too many dimensions, one out of bounds, or too many elements.
    """
    if not 1 <= len(shape) <= MAX_DIMS:
        raise UsageError(f"{at}.shape has {len(shape)} dimensions", f"send 1 to {MAX_DIMS}")
    elements = 1
    for size in shape:
        if not 0 <= size <= MAX_DIM:
            raise UsageError(f"{at}.shape has a size that is negative or too large", f"send 0 to {MAX_DIM}")
        elements *= size
    if elements > MAX_ELEMENTS:
        raise UsageError(f"{at}.shape has too many elements", f"send at most {MAX_ELEMENTS} in one tensor")
    return elements


def from_raw(raw: bytes, datatype: str, elements: int, at: str) -> npt.NDArray[Any] | list[bytes]:
    """Data of a tensor: a read-only view of `raw`, or for `BYTES` the elements.

    Args:
        raw: exactly the tensor's bytes.
        datatype: of the protocol.
        elements: as `count` says.
        at: the tensor's place, for messages.

    Raises:
        UsageError: an unknown datatype, or bytes that are not so many elements.
    """
    if datatype == "BYTES":
        return _strings(raw, elements, at)
    dtype = DATATYPES.get(datatype)
    if dtype is None:
        raise unknown(at)
    if len(raw) != elements * dtype.itemsize:
        raise UsageError(f"{at} has {len(raw)} bytes, which is not its shape", f"send {dtype.itemsize} per element")
    if datatype == "BOOL" and raw.translate(None, b"\x00\x01"):
        raise UsageError(f"{at} has a BOOL that is neither 0 nor 1", "send one byte per element, 0 or 1")
    return np.frombuffer(raw, dtype)


def to_raw(tensor: Tensor) -> bytes:
    """A tensor's data as raw bytes."""
    if isinstance(tensor.data, list):
        return b"".join([part for each in tensor.data for part in (_LENGTH.pack(len(each)), each)])
    return tensor.data.astype(DATATYPES[tensor.datatype], copy=False).tobytes()


def unknown(at: str) -> UsageError:
    """The error for a datatype that does not exist."""
    return UsageError(f"{at}.datatype is unknown", _KNOWN)


def _strings(raw: bytes, elements: int, at: str) -> list[bytes]:
    found, place, end = [], 0, len(raw)
    for _ in range(elements):
        start = place + _LENGTH.size
        if start > end:
            raise UsageError(f"{at} is cut off", "send a uint32 length and the bytes of every element")
        length: int = _LENGTH.unpack_from(raw, place)[0]
        place = start + length
        if length > MAX_STRING or place > end:
            raise UsageError(f"{at} has an element that is too long or cut off", f"send at most {MAX_STRING} bytes")
        found.append(raw[start:place])
    if place != end:
        raise UsageError(f"{at} is longer than its shape", "send one element per place of the shape")
    return found
