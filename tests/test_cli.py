from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from interlock.apps.cli import main, output
from interlock.base.errors import IntegrityError, InterlockError, RefusedError, UnreachableError, UsageError

CLI = Path(main.__file__).parent
HEAVY = ("numpy", "onnxruntime", "sqlalchemy", "starlette", "uvicorn", "httpx", "cryptography", "yaml", "pyarrow")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "interlock.apps.cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "NO_COLOR": "1", **environment},
    )


def test_every_noun_file_stands_in_the_table() -> None:
    files = {
        path.stem
        for path in CLI.glob("*.py")
        if any(
            isinstance(node, ast.FunctionDef) and node.name == "register" for node in ast.parse(path.read_text()).body
        )
    }
    assert {noun.rpartition(".")[2] for noun in main.NOUNS} == files


@pytest.mark.process
def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom interlock.apps.cli.main import build\nbuild()\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("m", "r"), 2),
        (RefusedError("m", "r"), 1),
        (IntegrityError("m", "r"), 1),
        (UnreachableError("m", "r"), 3),
    ],
)
def test_each_kind_of_error_has_its_exit_code(
    error: InterlockError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        output.fail(error, "json")
    assert caught.value.code == code
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"]["remedy"] == "r"
    assert captured.err.endswith("remedy: r\n")


def test_json_is_one_object_on_stdout_and_notes_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit("json", {"name": "fraud", "share": 0.5})
    output.hint("interlock up")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"name": "fraud", "share": 0.5}
    assert captured.err == "next: interlock up\n"


def test_a_table_shows_values_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit("table", {"share": 0.5, "last_seen": None, "markup": "[bold]x[/bold]", "ready": True})
    shown = capsys.readouterr().out
    assert "last seen  –" in shown
    assert "[bold]x[/bold]" in shown
    assert "yes" in shown


@pytest.mark.process
def test_a_mistake_in_the_settings_ends_every_command_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("scoring:\n  prt: 1\n")
    done = run("down", "--output", "json", INTERLOCK_HOME=str(tmp_path))
    assert done.returncode == output.EXIT_USAGE
    assert "settings.yaml:2" in json.loads(done.stdout)["error"]["message"]
    assert "host, port, workers" in done.stderr


@pytest.mark.process
def test_an_unknown_option_is_a_usage_error() -> None:
    assert run("down", "--outptu", "json").returncode == output.EXIT_USAGE


@pytest.mark.process
def test_nothing_is_down_already(tmp_path: Path) -> None:
    done = run("down", "--output", "json", INTERLOCK_HOME=str(tmp_path))
    assert (done.returncode, json.loads(done.stdout)) == (0, {"stopped": False})


@pytest.mark.process
def test_doctor_names_what_is_broken_and_its_fix(tmp_path: Path) -> None:
    trust = tmp_path / "trust"
    trust.mkdir()
    (trust / "kek.key").write_bytes(b"k" * 32)
    (trust / "kek.key").chmod(0o644)
    ports = {"INTERLOCK_SCORING_PORT": "0", "INTERLOCK_CONTROL_PORT": "0"}
    done = run("doctor", "--output", "json", INTERLOCK_HOME=str(tmp_path), **ports)
    found = json.loads(done.stdout)
    keys = next(each for each in found["checks"] if each["check"] == "keys")
    assert (done.returncode, found["ok"]) == (1, False)
    assert (keys["state"], keys["finding"]) == ("broken", "readable by others: kek.key")
    assert keys["fix"].startswith("chmod 600")
    (trust / "kek.key").chmod(0o600)
    done = run("doctor", "--output", "json", INTERLOCK_HOME=str(tmp_path), **ports)
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (0, True)


@pytest.mark.process
def test_doctor_examines_who_is_told_of_releases(tmp_path: Path) -> None:
    def notices(url: str) -> str:
        (tmp_path / "settings.yaml").write_text(f'notify:\n  urls: ["{url}"]\n')
        found = run("doctor", "--output", "json", INTERLOCK_HOME=str(tmp_path))
        return str(next(each for each in json.loads(found.stdout)["checks"] if each["check"] == "notices")["state"])

    assert notices("http://hooks.example.org/x") == "broken"
    assert notices("https://hooks.example.org/x") == "ok"
    assert not (tmp_path / "trust").exists()
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust" / "notify.secret").write_text("whsec_" + "a" * 44)
    (tmp_path / "trust" / "notify.secret").chmod(0o644)
    assert notices("https://hooks.example.org/x") == "broken"
