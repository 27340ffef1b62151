"""The load generator: one process, one thread, since its cost counts too.

    python -m bench.serving.generator < job.json > result.json

Contract. Closed loop: every connection keeps `pipeline` requests under way, and latency counts from
the send. Open loop: see `openload`. A request fails when its connection ends before the reply, when
the status is not 200, or when the reply lacks the job's `must`; failures of the warm-up count too.
Nothing is retried. An ended connection is opened anew. CPU of the watched processes is read at the
start and the end of the measured phase.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from bench.serving.cpu import Meter
from bench.serving.grpcload import GrpcLoad
from bench.serving.httpload import Load
from bench.serving.openload import OpenLoop
from bench.serving.tally import Job


def closed(job: Job) -> dict[str, Any]:
    """A closed-loop run."""
    load = GrpcLoad(job) if job.kind == "grpc" else Load(job)
    load.closed(job.warm_s)
    load.tally.since_ns = 0
    meter = Meter(job.groups)
    load.closed(job.measure_s)
    return load.tally.result(meter.read())


def main() -> None:
    """One job from standard input, its result to standard output."""
    given = json.load(sys.stdin)
    job = Job(**{**given, "address": tuple(given["address"])})
    print(json.dumps(OpenLoop(job).run() if job.rate else closed(job)))


if __name__ == "__main__":
    main()
