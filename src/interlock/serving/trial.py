"""A version is first tried where it can do no harm: in a throwaway process with limits.

Contract. The parent writes one job line to the child's standard input and reads one result line
from its standard output. The child is niced as soon as it runs, and lowers its own limits (address
space, CPU time, no core dump) before it touches the bundle; then it does exactly what a worker
would: digests, session, golden vectors, warm-up. Whatever ends it (a crash, a hang, memory, CPU, a
wrong golden score) is a RefusedError that says which; the child is killed at the wall limit and
reaped in every case. One child serves one job. `prewarm` starts it early, since interpreter and
runtime take a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from interlock.base.clock import NS_PER_MS, Clock
from interlock.base.errors import InterlockError, RefusedError, UnreachableError, UsageError
from interlock.decision.model import RuntimeFactory, check_golden, golden_vectors, open_model
from interlock.registry import bundle as bundles
from interlock.serving.repository import warm

_LINE_LIMIT = 1024 * 1024
_REMEMBERED = 64
"""Bundles whose passed trial is not repeated."""
_MB = 1024 * 1024


class Limits(msgspec.Struct, frozen=True):
    """What a trial may use.

    Attributes:
        wall_s: time from the job to its result.
        cpu_s: processor time, whole seconds.
        memory_mb: address space, in MiB.
        nice: added niceness, so that live traffic comes first.
    """

    wall_s: float = 60.0
    cpu_s: int = 60
    memory_mb: int = 4_096
    nice: int = 10


class Job(msgspec.Struct, frozen=True):
    """What the child is asked to try."""

    bundles: str
    bundle: str
    limits: Limits


class Report(msgspec.Struct, frozen=True):
    """What a trial found.

    Attributes:
        bundle: digest of the tried bundle.
        version: its model version.
        golden_difference: largest difference from the golden scores.
        load_ms: reading, checking and opening it.
        settled: whether latency settled during the warm-up.
        p50_ns: median model time by batch size (as text: `"1"`, `"4"`, `"16"`, `"64"`).
        p95_ns: 95th percentile by batch size.
        peak_mb: the child's peak resident memory.
    """

    bundle: str
    version: str
    golden_difference: float
    load_ms: float
    settled: bool
    p50_ns: dict[str, int]
    p95_ns: dict[str, int]
    peak_mb: float

    def flat(self) -> dict[str, float | int | str]:
        """The report as one level of plain values, for the admin protocol."""
        found: dict[str, float | int | str] = {
            "version": self.version,
            "golden_difference": self.golden_difference,
            "load_ms": self.load_ms,
            "settled": int(self.settled),
            "peak_mb": self.peak_mb,
        }
        for name, times in (("p50", self.p50_ns), ("p95", self.p95_ns)):
            found |= {f"{name}_ns_{size}": value for size, value in times.items()}
        return found


class Answer(msgspec.Struct, frozen=True):
    """The child's result line: a report, or the reason why not."""

    report: Report | None = None
    message: str = ""
    remedy: str = ""


def attempt(job: Job, runtime: RuntimeFactory, clock: Clock) -> Report:
    """Try a bundle in this very process, under whatever limits it has.

    Raises:
        InterlockError: why the bundle cannot serve.
        MemoryError: it needs more memory than it may use.
    """
    started = clock.monotonic_ns()
    content = bundles.read(Path(job.bundles), job.bundle)
    model = open_model(content, runtime)
    load_ns = clock.monotonic_ns() - started
    difference = check_golden(model, content.golden)
    warmth = warm(model, clock, golden_vectors(content.golden))
    return Report(
        bundle=job.bundle,
        version=model.version,
        golden_difference=difference,
        load_ms=load_ns / NS_PER_MS,
        settled=warmth.settled,
        p50_ns={str(size): ns for size, ns in warmth.p50_ns.items()},
        p95_ns={str(size): ns for size, ns in warmth.p95_ns.items()},
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def child(line: bytes, runtime: RuntimeFactory, clock: Clock) -> bytes:
    """The child's whole work: limits, attempt, one result line.

    Raises:
        UsageError: the line is no job.
    """
    try:
        job = msgspec.json.decode(line, type=Job)
    except msgspec.MsgspecError as error:
        raise UsageError("not a trial's job", "this program is started by the supervisor") from error
    try:
        _limit(job.limits)
        answer = Answer(attempt(job, runtime, clock))
    except InterlockError as error:
        answer = Answer(None, error.message, error.remedy)
    except MemoryError:
        answer = Answer(None, f"it needs more than {job.limits.memory_mb} MiB", "make the model smaller")
    return msgspec.json.encode(answer) + b"\n"


def _limit(limits: Limits) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + limits.cpu_s
    size = limits.memory_mb * _MB
    # A limit below what is mapped already stops nothing until the next mapping: whether a small model
    # still finds room in what the allocator holds would be chance.
    if _mapped() >= size:
        raise MemoryError
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _mapped() -> int:
    """Bytes of address space of this process; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except OSError:
        return 0


@dataclass
class Trials:
    """Runs trials, one child each.

    Args:
        command: starts the child program, which calls `child`.
        limits: of every trial.
    """

    command: Sequence[str]
    limits: Limits

    def __post_init__(self) -> None:
        """No child waits yet, and nothing was tried."""
        self._waiting: asyncio.subprocess.Process | None = None
        self._passed: dict[str, Report] = {}

    async def prewarm(self) -> None:
        """Have a child ready whose imports are done; does nothing when one waits."""
        if self._waiting is None or self._waiting.returncode is not None:
            self._waiting = await self._start()

    async def run(self, folder: Path, bundle: str) -> Report:
        """Try a bundle of that `bundles` folder, or tell again how it passed.

        A digest names the same bytes for ever, and whoever loads them checks it: what passed would
        pass again, as long as the runtime is the same (`forget`). What was refused is tried anew.

        Raises:
            RefusedError: it cannot serve, with the reason.
            UnreachableError: the child could not be started.
        """
        if (known := self._passed.get(bundle)) is not None:
            return known
        process = await self._take()
        job = msgspec.json.encode(Job(str(folder), bundle, self.limits)) + b"\n"
        try:
            async with asyncio.timeout(self.limits.wall_s):
                line, errors = await process.communicate(job)
        except TimeoutError as error:
            raise _refused(f"it did not finish within {self.limits.wall_s:g} s") from error
        finally:
            await _end(process)
        found = _result(line, errors, process.returncode, self.limits)
        if len(self._passed) >= _REMEMBERED:
            del self._passed[next(iter(self._passed))]
        self._passed[bundle] = found
        return found

    def forget(self) -> None:
        """Try everything anew: the runtime may be another one."""
        self._passed.clear()

    async def close(self) -> None:
        """End the waiting child, if there is one."""
        process, self._waiting = self._waiting, None
        if process is not None:
            await _end(process)

    async def _take(self) -> asyncio.subprocess.Process:
        process, self._waiting = self._waiting, None
        if process is not None and process.returncode is None:
            return process
        return await self._start()

    async def _start(self) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command, stdin=pipe, stdout=pipe, stderr=pipe, limit=_LINE_LIMIT, start_new_session=True
            )
        except OSError as error:
            raise UnreachableError("the trial process cannot be started", "check the installation") from error
        _stand_back(process.pid, self.limits.nice)
        return process


def _stand_back(pid: int, nice: int) -> None:
    """Live traffic comes first, before the child's imports too."""
    with contextlib.suppress(OSError):  # it has ended, or may not be nicer
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0) + nice)
    # A session of its own may be scheduled as a group of its own, inside which alone niceness counts.
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(nice), encoding="ascii")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await process.wait()


def _result(line: bytes, errors: bytes, code: int | None, limits: Limits) -> Report:
    try:
        answer = msgspec.json.decode(line, type=Answer)
    except msgspec.MsgspecError as error:
        raise _refused(_death(code, errors, limits)) from error
    if answer.report is None:
        raise RefusedError(f"the trial refused the bundle: {answer.message}", answer.remedy or "build it again")
    return answer.report


def _death(code: int | None, errors: bytes, limits: Limits) -> str:
    if code == -signal.SIGXCPU:
        return f"it used more than {limits.cpu_s} s of processor time"
    if b"bad_alloc" in errors or b"MemoryError" in errors:
        return f"it needs more than {limits.memory_mb} MiB"
    if code is not None and code < 0:
        return f"it crashed with {signal.Signals(-code).name}"
    return f"it ended without a result (exit code {code})"


def _refused(reason: str) -> RefusedError:
    return RefusedError(f"the trial refused the bundle: {reason}", "build it again, or raise the trial's limits")
