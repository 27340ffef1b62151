"""What an operator may set about explanations: default, unit, and what None means."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExplainOptions:
    """The process that explains decisions: how much it takes on, and what it may use.

    Attributes:
        queue: questions that may be under way or waiting; one more is refused.
        per_call: decisions in one question at most.
        models_mb: memory for loaded bundles and native models, in MiB; the last used ones stay.
        lookback_h: hours back in which a transaction is looked for; a decision's id has no such limit.
        patience_s: how long a client waits for an answer.
        hang_s: a question that takes longer ends the process, which is started again.
        nice: added to the process's niceness, so that scoring goes first.
    """

    queue: int = 16
    per_call: int = 32
    models_mb: int = 256
    lookback_h: float = 24.0
    patience_s: float = 30.0
    hang_s: float = 60.0
    nice: int = 10
