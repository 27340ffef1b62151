"""DuckDB as the offline engine: an accelerator that the reducer checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class DuckDbEngine:
    """`features.offline.Engine`: an in-memory database per query, no files, no extensions.

    Args:
        threads: how many cores a query may use.
    """

    def __init__(self, threads: int = 2) -> None:
        self._threads = threads

    def query(self, text: str, events: Mapping[str, Ints], columns: Sequence[str]) -> list[Ints]:
        """See the port."""
        import duckdb
        import pyarrow as pa

        config: dict[str, str | bool | int | float | list[str]] = {
            "threads": self._threads,
            "autoinstall_known_extensions": False,
            "enable_external_access": False,
        }
        with duckdb.connect(":memory:", config=config) as connection:
            connection.register("events", pa.table({name: pa.array(values) for name, values in events.items()}))
            found = connection.sql(text).to_arrow_table()
        return [found.column(name).to_numpy().astype(np.int64, copy=False) for name in columns]
