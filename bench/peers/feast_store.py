"""The features of four entities in Feast's online store: the same population, in the same Valkey.

    python -m bench.peers.feast_store FOLDER SOCKET

Four feature views with (count, sum) of five windows, one feature service over them, and every
entity's row written as a stream job would push it. The connection goes through the same unix
socket that Interlock uses, which is cheaper than TCP.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
from bench.serving.payloads import NAMES, POPULATION, WINDOWS, history
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.data_format import ParquetFormat
from feast.types import Int64

SERVICE = "fraud"


def columns(kind: str) -> list[str]:
    """Feature names in the vector's order."""
    return [f"{kind}_{aggregate}_{window}" for window in WINDOWS for aggregate in ("count", "sum")]


def config(folder: Path, socket: str) -> RepoConfig:
    """Feast's settings: Redis as the online store, everything else its default."""
    return RepoConfig(
        project="bench",
        provider="local",
        registry=str(folder / "feast-registry.db"),
        online_store={"type": "redis", "connection_string": f'localhost:6379,unix_socket_path="{socket}"'},
        offline_store={"type": "file"},
        entity_key_serialization_version=3,
    )


def views(folder: Path) -> list[FeatureView]:
    """One view for each entity."""
    made = []
    for kind in POPULATION:
        entity = Entity(name=kind, join_keys=[f"{kind}_id"], value_type=ValueType.STRING)
        path = folder / f"feast-{kind}.parquet"
        source = FileSource(path=str(path), timestamp_field="event_timestamp", file_format=ParquetFormat())
        frame(kind, 1).to_parquet(path)
        made.append(
            FeatureView(
                name=f"{kind}_velocity",
                entities=[entity],
                ttl=timedelta(days=8),
                schema=[Field(name=name, dtype=Int64) for name in columns(kind)],
                source=source,
            )
        )
    return made


def frame(kind: str, count: int) -> pd.DataFrame:
    """The rows of a view."""
    rows = pd.DataFrame([history(kind, number) for number in range(count)], columns=columns(kind))
    rows[f"{kind}_id"] = [NAMES[kind](number) for number in range(count)]
    rows["event_timestamp"] = datetime.now(tz=UTC)
    return rows


def main() -> None:
    """Declare and fill."""
    folder, socket = Path(sys.argv[1]), sys.argv[2]
    store = FeatureStore(config=config(folder, socket))
    made = views(folder)
    entities = [Entity(name=kind, join_keys=[f"{kind}_id"], value_type=ValueType.STRING) for kind in POPULATION]
    store.apply([*entities, *made, FeatureService(name=SERVICE, features=made)])
    for kind, count in POPULATION.items():
        store.write_to_online_store(f"{kind}_velocity", df=frame(kind, count))


if __name__ == "__main__":
    main()
