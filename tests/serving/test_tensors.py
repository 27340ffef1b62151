"""Shapes and raw data by themselves, as the gRPC door uses them too."""

from __future__ import annotations

import numpy as np
import pytest
from tests.protocol.bodies import strings

from interlock.base.errors import UsageError
from interlock.serving.wire import oip, tensors
from interlock.serving.wire.oip import Tensor


@pytest.mark.parametrize(
    ("shape", "elements"), [([1], 1), ([0], 0), ([2, 3], 6), ([2**31 - 1, 0], 0), ([1] * 8, 1), ([2**22], 2**22)]
)
def test_a_shape_has_the_product_of_its_sizes(shape: list[int], elements: int) -> None:
    assert tensors.count(shape, "inputs[0]") == elements


@pytest.mark.parametrize("shape", [[], [1] * 9, [-1], [-1, -1], [2**31], [2**31, 0], [2**22 + 1], [2**31 - 1] * 8])
def test_a_shape_out_of_bounds_is_refused_by_place(shape: list[int]) -> None:
    with pytest.raises(UsageError, match=r"^inputs\[3\]\.shape "):
        tensors.count(shape, "inputs[3]")


def test_an_unknown_datatype_is_refused() -> None:
    with pytest.raises(UsageError, match="datatype is unknown"):
        tensors.from_raw(b"\0" * 4, "FP31", 1, "inputs[0]")


def test_raw_data_is_little_endian_whatever_the_array_is() -> None:
    values = np.array([1, -2], ">i4")
    assert tensors.to_raw(Tensor("x", "INT32", (2,), values)) == b"\1\0\0\0\xfe\xff\xff\xff"


def test_texts_carry_their_lengths() -> None:
    raw = tensors.to_raw(Tensor("x", "BYTES", (3,), [b"ab", b"", b"\xff"]))
    assert raw == strings(b"ab", b"", b"\xff")
    assert tensors.from_raw(raw, "BYTES", 3, "x") == [b"ab", b"", b"\xff"]


def test_every_datatype_has_the_protocols_size() -> None:
    sizes = {name: dtype.itemsize * 8 for name, dtype in oip.DATATYPES.items()}
    assert sizes.pop("BOOL") == 8
    assert all(name.endswith(str(bits)) for name, bits in sizes.items())
