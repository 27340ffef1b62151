"""Settings of the scoring data plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ServingOptions:
    """How many workers serve, what they accept, and how long anyone waits.

    Attributes:
        mode: `full` decides transactions and scores tensors; `tensors-only` scores tensors, and so needs no
            online store and takes models of any feature set; `features-only` decides transactions by the scores
            of another server (`predictor_url`), on threads of their own.
        predictor_url: the V2 predictor of `features-only`, such as http://127.0.0.1:9000; its model has the
            service's name.
        predictor_versions: whether the version is part of the predictor's path; else the predictor serves one
            version of a service, and another cannot be loaded beside it: its golden vectors score differently.
        predictor_ms: longest wait for the predictor; below `hang_s`.
        host: address of the scoring listener.
        port: its port; 0 lets the system choose (the real one is in `run/endpoints.json`).
        workers: scoring processes on the one listener.
        grpc: whether there is a gRPC door.
        grpc_port: its port; None: the one after `port`, or any where that is 0.
        backlog: connections the kernel may queue for the listener.
        max_connections: open connections per worker; beyond it new ones wait in the backlog.
        max_header_bytes: request line and headers of one request (then 431).
        max_headers: header fields of one request (then 431).
        max_body_bytes: body of one request (then 413).
        max_instances: transactions in one request (then 400).
        max_pipeline: unanswered requests of one connection before it is no longer read.
        header_timeout_s: from the first byte of a request to the end of its headers (then 408).
        body_timeout_s: from the end of the headers to the end of the body (then 408).
        idle_timeout_s: a kept-alive connection without a request; longer than a proxy's usual 60 s.
        batch: transactions in one tick at most.
        queue: transactions waiting for a tick, per worker and service (then 429).
        deadline_ms: per model call while a rollout is unsettled; then the champion answers.
        hang_s: a model call longer than this makes the worker ask to be replaced.
        max_wait_s: longest time that a caller may give a request to wait for its turn.
        held_s: how long a duplicate waits for the attempt that holds its transaction (then 503).
        report_ms: how often a worker reports its counts to the supervisor.
        silence_s: a worker that has not reported for so long is killed and replaced.
        start_s: a worker that is not ready after so long is killed and replaced.
        lag_s: after SIGTERM, how long new connections are still accepted while `ready` says no.
        drain_s: after that, how long kept-alive connections may send one more request.
        linger_s: how long a closed connection is read, so that the last reply is not cut off.
        seal_s: how often open segments are closed and sealed.
        segment_bytes: size to which a segment is preallocated.
        fsync: `none` leaves segments to the page cache (a process may die, not the machine);
            `tick` makes each tick's records durable before its replies.
        unwritable: what a worker does when it cannot write decisions: `stop` answers 503,
            `serve-and-alarm` goes on and counts.
        trial_s: time a bundle may take in its throwaway process.
        trial_mb: address space it may take there, in MiB.
        load_s: time a worker may take to load a bundle.
        ondemand_mb: MiB in each worker for admitted versions that nothing routes to and callers of tensors
            name: their models' bytes times `serving.ondemand.FACTOR`; 0: none is loaded.
        ceiling_events: deadline misses (or errors) of an arm within `ceiling_s` ...
        ceiling_share: ... which, at this share of its calls, make the supervisor retreat by itself.
        ceiling_s: the window of the two.
        tls_cert: PEM file of the scoring door's certificate chain, relative to the home; None: plaintext.
        tls_key: PEM file of its private key; None: it stands in `tls_cert`.
        tls_client_ca: PEM file of the authorities whose client certificates are required (mTLS); None: none is.
        otlp_url: where spans of sampled requests go (OTLP/HTTP, JSON), such as `http://collector:4318`; the
            path is `/v1/traces` unless it has one; None: nothing is traced.
        trace_ratio: share of the requests without a `traceparent` that are sampled, 0 to 1; a request with one is
            sampled as its caller says.
        trace_queue: spans that wait for the collector at most; what comes beyond them is dropped and counted.
        score_cache: scores that a worker keeps, by bundle and vector; 0: none.
        cpu_hour_price: of one CPU for one hour, in any currency, for the cost metric; None: there is none.
    """

    mode: Literal["full", "tensors-only", "features-only"] = "full"
    predictor_url: str | None = None
    predictor_versions: bool = False
    predictor_ms: int = 1_000
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 2
    grpc: bool = True
    grpc_port: int | None = None
    backlog: int = 2_048
    max_connections: int = 4_096
    max_header_bytes: int = 16_384
    max_headers: int = 64
    max_body_bytes: int = 1_048_576
    max_instances: int = 256
    max_pipeline: int = 64
    header_timeout_s: float = 5.0
    body_timeout_s: float = 10.0
    idle_timeout_s: float = 75.0
    batch: int = 64
    queue: int = 4_096
    deadline_ms: int = 50
    hang_s: float = 2.0
    max_wait_s: float = 60.0
    held_s: float = 2.0
    report_ms: int = 250
    silence_s: float = 7.0
    start_s: float = 60.0
    lag_s: float = 1.0
    drain_s: float = 5.0
    linger_s: float = 1.0
    seal_s: float = 10.0
    segment_bytes: int = 8 * 1_048_576
    fsync: Literal["none", "tick"] = "none"
    unwritable: Literal["stop", "serve-and-alarm"] = "stop"
    trial_s: float = 60.0
    trial_mb: int = 4_096
    load_s: float = 60.0
    ondemand_mb: int = 512
    ceiling_events: int = 20
    ceiling_share: float = 0.05
    ceiling_s: float = 5.0
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
    otlp_url: str | None = None
    trace_ratio: float = 0.0
    trace_queue: int = 4_096
    score_cache: int = 0
    cpu_hour_price: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no process could serve with; settings say it with the group's name."""
        if self.otlp_url is not None and not self.otlp_url.startswith(("http://", "https://")):
            raise ValueError("otlp_url is no http:// or https:// address")
        if not 0.0 <= self.trace_ratio <= 1.0:
            raise ValueError("trace_ratio is a share, from 0 to 1")
        if self.score_cache < 0 or self.trace_queue < 1:
            raise ValueError("score_cache is 0 or more, trace_queue 1 or more")
        if self.cpu_hour_price is not None and not 0.0 <= self.cpu_hour_price < float("inf"):
            raise ValueError("cpu_hour_price is a price")
