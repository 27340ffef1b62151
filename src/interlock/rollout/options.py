"""What an operator may set about the controller: default, unit, and what None means."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class RolloutOptions:
    """Where the wish comes from, and how closely the controller looks."""

    repository: str | None = None
    """URL or path of the release repository; None: this controller follows none (and says so)."""
    branch: str = "main"
    """The protected branch whose head is the wish."""
    environment: str = "production"
    """Which folder under `environments/` this controller carries out."""
    poll_s: float = 0.5
    """Seconds between two looks at the branch."""
    look_s: float = 1.0
    """Seconds between two looks at the counters while a rollout is unsettled."""
    tau_samples: int = 200
    """Model times of the champion wanted before the latency threshold is frozen."""
    tau_wait_s: float = 2.0
    """Seconds to wait for them after the candidate has loaded; then latency is not judged, and the look says so."""
    silent_s: float = 5.0
    """Seconds without counters after which the source counts as missing and the rollout pauses."""
    horizon_versions: int = 3
    """How many settled releases of a service, the live one included, one may return to without a new analysis."""
    horizon_days: float = 30.0
    """Days after which a release that has stopped serving is out of that horizon."""
    git_timeout_s: float = 20.0
    """Seconds one git command may take."""
    before_logs: dict[str, str] = field(default_factory=dict)
    """By environment that comes before this one: the folder of its transparency log, copied or mounted."""
    before_keys: dict[str, str] = field(default_factory=dict)
    """By environment that comes before this one: its log's verifier key, the line in its trust/log.vkey."""


@dataclass(frozen=True)
class ControlOptions:
    """The control process: its address and its lease."""

    host: str = "127.0.0.1"
    """Address of the control API and console."""
    port: int = 8090
    """TCP port; 0: any free one (the real one stands in run/endpoints.json)."""
    lease_s: float = 15.0
    """Seconds the lease of the leading controller lasts; a second controller takes over after it."""
    table_lease_s: float = 60.0
    """Seconds an unsettled route table is valid at the scorers without being renewed."""
    loop_s: float = 0.2
    """Seconds between two turns of the reconciler."""
    webhook_secret: str | None = None
    """File below the home (mode 0600) with the secret of the forge's webhook; None: webhooks are refused."""
    request_timeout_s: float = 10.0
    """Seconds a client waits for the control API."""


@dataclass(frozen=True)
class NotifyOptions:
    """Who is told of what happens to releases, by signed webhooks."""

    urls: tuple[str, ...] = ()
    """Endpoints: https, or http on this machine; empty: nobody is told."""
    events: tuple[str, ...] = ()
    """Types of events that are told, such as rollout.held; empty: all that can be."""
    secret: str | None = None
    """File of signing secrets (0600; lines of whsec_ and base64); None: trust/notify.secret, made on first use."""
    timeout_s: float = 10.0
    """Seconds that an endpoint may take to connect, and to answer."""
    first_retry_s: float = 2.0
    """Seconds before the second attempt, halved at most by chance; doubled after each failure."""
    longest_retry_s: float = 600.0
    """Longest pause between two attempts, seconds."""
    give_up_h: float = 24.0
    """Age of an event, hours, after which a failed attempt was the last."""
    poll_s: float = 1.0
    """Seconds between two looks at the events."""

    def __post_init__(self) -> None:
        """Refuse what would never wait, or never send."""
        if min(self.timeout_s, self.first_retry_s, self.longest_retry_s, self.poll_s) <= 0 or self.give_up_h < 0:
            raise ValueError("timeouts and pauses are positive")
