import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import uvloop
from tests.builders import tiny_bundle, tiny_files

from interlock.adapters.onnx.runtime import OnnxRuntime
from interlock.apps.scorer.trial import COMMAND
from interlock.base.clock import SystemClock
from interlock.base.errors import RefusedError, UnreachableError, UsageError
from interlock.registry import bundle as bundles
from interlock.serving import trial
from interlock.serving.trial import Job, Limits, Report, Trials

LIMITS = Limits(wall_s=30, cpu_s=20, memory_mb=4_096)
T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def program(body: str) -> tuple[str, ...]:
    """A child that reads its job, begins, and then does something else."""
    begin = "line = sys.stdin.buffer.readline()\nprint('begun', flush=True)"
    return sys.executable, "-c", f"import sys, os, signal, time, resource\n{begin}\n{body}"


def refusal(command: tuple[str, ...], limits: Limits = LIMITS) -> str:
    with pytest.raises(RefusedError) as caught:
        run(Trials(command, limits).run(Path("nowhere"), "sha256:" + "0" * 64))
    return str(caught.value)


def test_a_good_bundle_is_reported_with_its_figures(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path).digest
    report = trial.attempt(Job(str(tmp_path), bundle, LIMITS), OnnxRuntime.from_bytes, SystemClock())
    assert (report.bundle, report.version) == (bundle, "1.0.0")
    assert report.golden_difference <= 1e-5
    assert set(report.p95_ns) == {"1", "4", "16", "64"}
    assert all(report.p50_ns[size] <= report.p95_ns[size] for size in report.p50_ns)
    flat = report.flat()
    assert flat["p95_ns_16"] == report.p95_ns["16"]
    assert all(isinstance(value, int | float | str) for value in flat.values())


def test_a_line_that_is_no_job_is_refused() -> None:
    with pytest.raises(UsageError, match="job"):
        trial.child(b"{}", OnnxRuntime.from_bytes, SystemClock(), lambda: None)


@pytest.mark.process
def test_the_throwaway_process_tries_a_bundle_warm_or_cold(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path).digest

    async def both() -> list[Report]:
        trials = Trials(COMMAND, LIMITS)
        cold = await trials.run(tmp_path, bundle)
        trials.forget()
        await trials.prewarm()
        await trials.prewarm()
        warm = await trials.run(tmp_path, bundle)
        await trials.close()
        return [cold, warm]

    for report in run(both()):
        assert report.bundle == bundle
        assert report.golden_difference <= 1e-5


@pytest.mark.process
def test_what_passed_is_told_again_until_the_runtime_may_be_another_and_what_failed_is_tried_anew(
    tmp_path: Path,
) -> None:
    bundle = tiny_bundle(tmp_path).digest
    (folder,) = tmp_path.iterdir()
    away = folder.with_name("away")

    async def work() -> None:
        trials = Trials(COMMAND, LIMITS)
        folder.rename(away)
        with pytest.raises(RefusedError):
            await trials.run(tmp_path, bundle)
        away.rename(folder)
        passed = await trials.run(tmp_path, bundle)
        folder.rename(away)
        assert await trials.run(tmp_path, bundle) == passed, "no child has looked"
        trials.forget()
        with pytest.raises(RefusedError):
            await trials.run(tmp_path, bundle)

    run(work())


def with_spare(folder: Path, bundle: str, disturb: Callable[[int], None], **patience: float) -> list[int]:
    """Try a bundle after something was done to the spare; process ids of the spares before and after."""

    async def work() -> list[int]:
        trials = Trials(COMMAND, LIMITS, **patience)
        await trials.prewarm()
        before = trials.spare
        disturb(before)
        report = await trials.run(folder, bundle)
        assert report.bundle == bundle
        assert trials.spare == 0, "a child that has tried something waits for nothing more"
        await trials.prewarm()
        after = trials.spare
        await trials.close()
        return [before, after]

    return run(work())


@pytest.mark.process
def test_a_spare_serves_one_bundle_and_another_takes_its_place(tmp_path: Path) -> None:
    before, after = with_spare(tmp_path, tiny_bundle(tmp_path).digest, lambda pid: None)
    assert before != after
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)


@pytest.mark.process
def test_a_spare_is_renewed_in_the_background_once_and_ended_at_the_close() -> None:
    async def work() -> int:
        trials = Trials(COMMAND, LIMITS)
        trials.renew()
        trials.renew()
        await trials.prewarm()
        pid = trials.spare
        trials.renew()
        await trials.prewarm()
        assert trials.spare == pid
        await trials.close()
        return pid

    with pytest.raises(ProcessLookupError):
        os.kill(run(work()), 0)


@pytest.mark.process
def test_a_spare_that_died_is_no_reason_against_a_bundle(tmp_path: Path) -> None:
    with_spare(tmp_path, tiny_bundle(tmp_path).digest, lambda pid: os.kill(pid, signal.SIGKILL))


@pytest.mark.process
def test_a_spare_that_hangs_is_no_reason_against_a_bundle(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path).digest

    async def work() -> None:
        trials = Trials(COMMAND, LIMITS, start_s=30.0, answer_s=0.3)
        await trials.prewarm()
        hung = trials.spare
        os.kill(hung, signal.SIGSTOP)
        assert trials._waiting is not None
        # As if it had been started long ago.
        trials._waiting = trial._Child(trials._waiting.process, asyncio.get_running_loop().time() - 60)
        assert (await trials.run(tmp_path, bundle)).bundle == bundle
        with pytest.raises(ProcessLookupError):
            os.kill(hung, 0)

    run(work())


@pytest.mark.process
def test_a_child_that_never_begins_is_the_machines_fault(tmp_path: Path) -> None:
    silent = sys.executable, "-c", "import time; time.sleep(600)"
    ended = sys.executable, "-c", "raise SystemExit(3)"
    for command in (silent, ended):
        with pytest.raises(UnreachableError, match="did not begin"):
            run(Trials(command, LIMITS, start_s=0.5).run(tmp_path, "sha256:" + "0" * 64))


@pytest.mark.process
def test_the_limits_hold_before_the_bundle_is_touched(tmp_path: Path) -> None:
    look = "import resource, sys; from interlock.serving import trial; from interlock.base.clock import SystemClock\n"
    look += (
        "def begun(): print('begun', flush=True); print(resource.getrlimit(resource.RLIMIT_AS)[0], file=sys.stderr)\n"
    )
    look += "def runtime(*a): raise SystemExit('touched')\n"
    look += "trial.child(sys.stdin.buffer.readline(), runtime, SystemClock(), begun)"
    job = msgspec.json.encode(Job(str(tmp_path), tiny_bundle(tmp_path).digest, LIMITS)) + b"\n"
    done = subprocess.run([sys.executable, "-c", look], input=job, capture_output=True, check=False)
    assert done.stdout == trial.BEGUN
    assert done.stderr.split() == [str(LIMITS.memory_mb * 1024 * 1024).encode(), b"touched"]


@pytest.mark.process
def test_a_wrong_golden_score_is_the_reason(tmp_path: Path) -> None:
    files = tiny_files()
    golden = json.loads(files["golden.json"])
    golden["scores"][0] += 0.1
    bundle = bundles.write(tmp_path, files | {"golden.json": json.dumps(golden).encode()})
    with pytest.raises(RefusedError, match="golden vectors"):
        run(Trials(COMMAND, LIMITS).run(tmp_path, bundle))


@pytest.mark.process
def test_a_bundle_that_is_not_there_or_altered_is_the_reason(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="no bundle"):
        run(Trials(COMMAND, LIMITS).run(tmp_path, "sha256:" + "0" * 64))


@pytest.mark.process
def test_too_little_memory_is_the_reason(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path).digest
    limits = Limits(wall_s=30, cpu_s=20, memory_mb=64)
    with pytest.raises(RefusedError, match="64 MiB"):
        run(Trials(COMMAND, limits).run(tmp_path, bundle))


@pytest.mark.process
def test_a_crash_is_the_reason() -> None:
    assert "crashed with SIGSEGV" in refusal(program("os.kill(os.getpid(), signal.SIGSEGV)"))


@pytest.mark.process
def test_a_hang_is_killed_and_is_the_reason() -> None:
    assert "within 0.5 s" in refusal(program("time.sleep(600)"), Limits(wall_s=0.5))


@pytest.mark.process
def test_too_much_processor_time_is_the_reason() -> None:
    burn = "resource.setrlimit(resource.RLIMIT_CPU, (1, 2))\nwhile True: pass"
    assert "processor time" in refusal(program(burn))


@pytest.mark.process
def test_an_end_without_result_is_the_reason() -> None:
    assert "exit code 3" in refusal(program("sys.exit(3)"))
    assert "without a result" in refusal(program("print('not a result')"))


@pytest.mark.process
def test_a_program_that_does_not_exist_is_said() -> None:
    with pytest.raises(UnreachableError, match="cannot be started"):
        run(Trials(("/nonexistent/program",), LIMITS).run(Path(), "sha256:" + "0" * 64))


@pytest.mark.process
def test_the_supervisors_loop_runs_trials_too(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path).digest
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(Trials(COMMAND, LIMITS).run(tmp_path, bundle)).bundle == bundle
