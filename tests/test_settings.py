from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from interlock import settings
from interlock.base.clock import ClockOptions
from interlock.base.errors import IntegrityError, UsageError


def given(home: Path, text: str) -> Path:
    (home / "settings.yaml").write_text(text)
    return home


def test_without_a_file_the_defaults_of_the_rooms_hold(tmp_path: Path) -> None:
    found = settings.load(tmp_path, {})
    assert (found.scoring.port, found.control.port) == (8080, 8090)
    assert found.purpose == "live"
    assert found.store.url is None
    assert found.places.admin_socket == tmp_path / "run" / "scorer.sock"


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    given(tmp_path, "scoring:\n  port: 1\n  workers: 3\n")
    found = settings.load(tmp_path, {"INTERLOCK_SCORING_PORT": "0", "INTERLOCK_STORE_URL": "redis://127.0.0.1:1"})
    assert (found.scoring.port, found.scoring.workers) == (0, 3)
    assert found.store.url == "redis://127.0.0.1:1"


def test_the_home_comes_from_the_argument_then_the_environment(tmp_path: Path) -> None:
    assert settings.load(tmp_path, {"INTERLOCK_HOME": "/elsewhere"}).home == tmp_path
    assert settings.load(None, {"INTERLOCK_HOME": str(tmp_path)}).home == tmp_path
    assert settings.load(None, {}).home == Path.cwd() / ".interlock"


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("scorng:\n  port: 1\n", "settings.yaml:1: unknown group scorng", "scoring, store"),
        ("scoring:\n  port: 1\n  prt: 2\n", "settings.yaml:3: unknown field scoring.prt", "host, port, workers"),
        ("scoring:\n  port: many\n", "settings.yaml:2: scoring.port", "int"),
        ("scoring:\n  port: 1.5\n", "settings.yaml:2: scoring.port", "int"),
        ("scoring: 8080\n", "settings.yaml:1: scoring is not a mapping", "host"),
        ("purpose: production\n", "unknown purpose", "live, demo, replay"),
        ("- a\n", "not a mapping", "scoring"),
    ],
)
def test_a_mistake_names_its_line_and_what_is_known(tmp_path: Path, text: str, message: str, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings.load(given(tmp_path, text), {})
    assert message in caught.value.message
    assert remedy in caught.value.remedy


def test_an_unknown_variable_of_a_known_group_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="INTERLOCK_SCORING_PROT: unknown field"):
        settings.load(tmp_path, {"INTERLOCK_SCORING_PROT": "1"})
    settings.load(tmp_path, {"INTERLOCK_TEST_REDIS": "not a group of ours"})


@pytest.mark.parametrize("purpose", ["demo", "replay"])
def test_another_clock_is_for_demos_and_replays_only(tmp_path: Path, purpose: str) -> None:
    clock = "clock:\n  origin_ns: 5\n  started_ns: 6\n  speed: 650.0\n"
    with pytest.raises(UsageError, match="real time"):
        settings.load(given(tmp_path, clock), {})
    found = settings.load(given(tmp_path, f"purpose: {purpose}\n{clock}"), {})
    assert found.clock == ClockOptions(5, 6, 650.0)


def test_written_settings_are_read_back_and_bad_ones_refused(tmp_path: Path) -> None:
    settings.write(tmp_path, {"purpose": "demo", "rollout": {"repository": tmp_path / "r", "poll_s": 0.5}})
    assert settings.load(tmp_path, {}).rollout.repository == str(tmp_path / "r")
    with pytest.raises(UsageError, match="unknown field"):
        settings.write(tmp_path, {"rollout": {"repo": "x"}})
    assert settings.load(tmp_path, {}).purpose == "demo"


def test_endpoints_are_published_and_withdrawn(tmp_path: Path) -> None:
    assert settings.read_endpoints(tmp_path) == {}
    settings.publish_endpoint(tmp_path, "scoring", "http://127.0.0.1:1")
    settings.publish_endpoint(tmp_path, "control", "http://127.0.0.1:2")
    assert json.loads((tmp_path / "run" / "endpoints.json").read_text()) == {
        "control": "http://127.0.0.1:2",
        "scoring": "http://127.0.0.1:1",
    }
    settings.publish_endpoint(tmp_path, "scoring", None)
    assert settings.read_endpoints(tmp_path) == {"control": "http://127.0.0.1:2"}


def test_endpoints_published_at_once_all_arrive(tmp_path: Path) -> None:
    names: tuple[settings.Endpoint, ...] = ("scoring", "control", "admin", "store")
    for attempt in range(10):
        together = Barrier(len(names))

        def publish(name: settings.Endpoint, home: Path, together: Barrier) -> None:
            together.wait()
            settings.publish_endpoint(home, name, name)

        home = tmp_path / str(attempt)
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(publish, names, [home] * len(names), [together] * len(names)))
        assert settings.read_endpoints(home) == {name: name for name in names}


def test_a_damaged_endpoints_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "endpoints.json").write_text("[")
    with pytest.raises(IntegrityError, match=r"endpoints\.json"):
        settings.read_endpoints(tmp_path)


def test_every_setting_can_be_described() -> None:
    described = {f"{group}.{field}": default for group, field, _, default in settings.describe()}
    assert described["scoring.port"] == "8080"
    assert described["store.url"] == "–"
