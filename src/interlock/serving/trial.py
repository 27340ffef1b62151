"""A version is first tried where it can do no harm: in a throwaway process with limits.

Contract. The parent writes one job line to the child's standard input and reads from its standard
output `begun`, once the child's limits hold (address space, CPU time, no core dump), and one result
line. The child is niced as soon as it runs, and touches the bundle only after `begun`; then it does
exactly what a worker would: digests, session, golden vectors, warm-up. Whatever ends it from there on
(a crash, a hang, memory, CPU, a wrong golden score) is a RefusedError that says which; what ends it
before is nobody's fault but the machine's, and another child is tried. The child is killed at the
wall limit and reaped in every case. One child serves one job and nothing after it. `prewarm` starts
the next one early, since interpreter and runtime take most of a second: a spare that waits holds about
60 MiB, half of them its own.

Niceness, and not SCHED_IDLE: where every CPU is busy a nice child still gets a tenth of one, while an
idle one took up to twice as long (measured at a load of four a CPU), and without a scheduling group of
its own would be starved until its wall limit, and the bundle blamed. Where there is room both are equal.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from interlock.base.clock import NS_PER_MS, Clock
from interlock.base.errors import InterlockError, RefusedError, UnreachableError, UsageError
from interlock.decision.model import RuntimeFactory, check_golden, golden_vectors, open_model
from interlock.registry import bundle as bundles
from interlock.serving.repository import warm

BEGUN = b"begun\n"
"""The child's first line: its limits hold, and what happens from now on is the bundle's doing."""
_START_S = 30.0
"""From a child's start until it may be asked for that line: interpreter and runtime on a busy machine."""
_ANSWER_S = 10.0
"""What a spare that is older than that gets to wake up."""
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


def child(line: bytes, runtime: RuntimeFactory, clock: Clock, begun: Callable[[], None]) -> bytes:
    """The child's whole work: limits, `begun`, attempt; the result line.

    Raises:
        UsageError: the line is no job.
    """
    try:
        job = msgspec.json.decode(line, type=Job)
    except msgspec.MsgspecError as error:
        raise UsageError("not a trial's job", "this program is started by the supervisor") from error
    try:
        _limit(job.limits)
        begun()
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


@dataclass(frozen=True)
class _Child:
    """A child process and when it was started (the loop's clock, seconds)."""

    process: asyncio.subprocess.Process
    started_s: float

    @property
    def alive(self) -> bool:
        """It has not ended, as far as is known."""
        return self.process.returncode is None


@dataclass
class Trials:
    """Runs trials, one child each.

    Args:
        command: starts the child program, which calls `child`.
        limits: of every trial.
        start_s: how long a new child may take until it begins.
        answer_s: how long a spare may.
    """

    command: Sequence[str]
    limits: Limits
    start_s: float = _START_S
    answer_s: float = _ANSWER_S

    def __post_init__(self) -> None:
        """No child waits yet, and nothing was tried."""
        self._waiting: _Child | None = None
        self._starting = asyncio.Lock()
        self._renewing: asyncio.Future[None] | None = None
        self._passed: dict[str, Report] = {}

    @property
    def spare(self) -> int:
        """The process id of the child that waits; 0: none does."""
        return self._waiting.process.pid if self._waiting is not None and self._waiting.alive else 0

    async def prewarm(self) -> None:
        """Have a child ready whose imports are done; does nothing when one waits."""
        async with self._starting:
            if not self.spare:
                self._waiting = await self._start()

    def renew(self) -> None:
        """Begin to have a child ready; where that fails, the next trial starts its own."""
        self._renewing = asyncio.ensure_future(self.prewarm())
        self._renewing.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def run(self, folder: Path, bundle: str) -> Report:
        """Try a bundle of that `bundles` folder, or tell again how it passed.

        A digest names the same bytes for ever, and whoever loads them checks it: what passed would
        pass again, as long as the runtime is the same (`forget`). What was refused is tried anew.

        Raises:
            RefusedError: it cannot serve, with the reason.
            UnreachableError: no child could be started.
        """
        if (known := self._passed.get(bundle)) is not None:
            return known
        job = msgspec.json.encode(Job(str(folder), bundle, self.limits)) + b"\n"
        found = await self._with_spare(job) or await self._with_new(job)
        if len(self._passed) >= _REMEMBERED:
            del self._passed[next(iter(self._passed))]
        self._passed[bundle] = found
        return found

    def forget(self) -> None:
        """Try everything anew, in a new child: the runtime may be another one."""
        self._passed.clear()
        spare, self._waiting = self._waiting, None
        if spare is not None and spare.alive:
            spare.process.kill()

    async def close(self) -> None:
        """End the waiting child, if there is one."""
        if self._renewing is not None:
            with contextlib.suppress(UnreachableError):
                await self._renewing
        spare, self._waiting = self._waiting, None
        if spare is not None:
            await _end(spare.process)

    async def _with_spare(self, job: bytes) -> Report | None:
        """What the child that waits finds; None: there is none, or it hangs or dies before it begins."""
        spare, self._waiting = self._waiting, None
        if spare is None or not spare.alive:
            return None
        age_s = asyncio.get_running_loop().time() - spare.started_s
        return await self._judge(spare, job, max(self.answer_s, self.start_s - age_s))

    async def _with_new(self, job: bytes) -> Report:
        found = await self._judge(await self._start(), job, self.start_s)
        if found is None:
            raise UnreachableError("the trial process did not begin", "see run/scorer.log, and whether memory is short")
        return found

    async def _judge(self, child: _Child, job: bytes, patience_s: float) -> Report | None:
        """The child's report; None when it did not begin in time."""
        process = child.process
        try:
            first = await _first_line(process, job, patience_s)
            if not first:
                return None
            if first != BEGUN:  # it refuses before it begins: its limits leave no room
                return _result(first, b"", process.returncode, self.limits)
            async with asyncio.timeout(self.limits.wall_s):
                line, errors = await process.communicate()
        except TimeoutError as error:
            raise _refused(f"it did not finish within {self.limits.wall_s:g} s") from error
        finally:
            await _end(process)
        return _result(line, errors, process.returncode, self.limits)

    async def _start(self) -> _Child:
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command, stdin=pipe, stdout=pipe, stderr=pipe, limit=_LINE_LIMIT, start_new_session=True
            )
        except OSError as error:
            raise UnreachableError("the trial process cannot be started", "check the installation") from error
        _stand_back(process.pid, self.limits.nice)
        return _Child(process, asyncio.get_running_loop().time())


async def _first_line(process: asyncio.subprocess.Process, job: bytes, patience_s: float) -> bytes:
    """What the child says first about a job; empty when it dies or hangs before it says anything."""
    if process.stdin is None or process.stdout is None:  # pragma: no cover - it was started with pipes
        return b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(patience_s):
            process.stdin.write(job)
            await process.stdin.drain()
            return await process.stdout.readline()
    return b""


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
