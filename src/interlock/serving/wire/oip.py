"""The Open Inference Protocol's requests and responses, however they were framed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Parameters = Mapping[str, bool | int | float | str]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named tensor.

    Attributes:
        name: as declared.
        datatype: of the protocol, such as `FP32` or `BYTES`.
        shape: row-major.
        data: flat and little-endian, or for `BYTES` a list.
        parameters: of the tensor.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: npt.NDArray[np.generic] | list[bytes]
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A requested output."""

    name: str
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One request; an empty version means whatever serves now."""

    model: str
    version: str
    id: str
    parameters: Parameters
    inputs: tuple[Tensor, ...]
    outputs: tuple[Wanted, ...] = ()


@dataclass(frozen=True, slots=True)
class InferResponse:
    """One response."""

    model: str
    version: str
    id: str
    parameters: Parameters
    outputs: tuple[Tensor, ...]
