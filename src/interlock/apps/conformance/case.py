"""What a conformance case is: data, two pure functions, and a verdict.

Contract. `ask` builds what is sent from what is known of the server; `judge` reads the replies and
yields one sentence per thing that does not hold (none: pass). Both may raise `NotApplicable`, which
makes the case inconclusive with its reason. Neither does any input or output: a case can be judged
from stored replies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from interlock.apps.conformance.tensors import Sample, Unreadable
from interlock.base.verdict import Verdict

GROUPS = ("v1", "v2", "http", "binary", "grpc", "repository")
"""Names that `--only` takes, in the order in which they run."""


class NotApplicable(Exception):
    """The case does not apply to this server, and why."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request.

    Attributes:
        method: such as `POST`.
        target: path with its query.
        body: as it goes out.
        headers: in order; `Host` and `Content-Length` are added unless `bare`.
        bare: the headers are complete as they stand, right or wrong.
    """

    method: str
    target: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Requests on one connection.

    Attributes:
        requests: in order.
        pipelined: all are sent before the first reply is read.
        cut: after sending, the client closes its sending side.
    """

    requests: tuple[Request, ...]
    pipelined: bool = False
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one request.

    Attributes:
        status: 0 when nothing came.
        headers: lower-case names.
        body: decoded from its transfer coding.
        closed: the connection ended after it.
        lost: why there is no reply; empty when there is one.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    closed: bool = False
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One unary gRPC call: the method's name and its message, serialised."""

    method: str
    message: bytes


@dataclass(frozen=True, slots=True)
class Calls:
    """gRPC calls on one connection, in order."""

    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a gRPC call ended with: the code's name, the message when it is OK, else what the status says."""

    code: str
    message: bytes = b""
    says: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is known of the server before the cases run.

    Attributes:
        model: which model is called.
        version: an explicit version, or empty when the model has none.
        server: server metadata; empty when there is none.
        metadata: model metadata; empty when there is none.
        inputs: a valid set of input tensors; empty when none could be made.
        outputs: the names, in order, of what a plain request returned.
        instances: a valid V1 batch; None when none is known.
        repeatable: the same request twice gave the same outputs.
        binary: a request with binary inputs was accepted.
        v1: a page of protocol V1 was answered.
        with_repository: load and unload may be called.
    """

    model: str
    version: str = ""
    server: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[Sample, ...] = ()
    outputs: tuple[str, ...] = ()
    instances: tuple[Any, ...] | None = None
    repeatable: bool = True
    binary: bool = False
    v1: bool = True
    with_repository: bool = False

    def states(self, word: str) -> bool:
        """Whether the server's metadata lists an extension whose name holds `word`."""
        extensions = self.server.get("extensions")
        return isinstance(extensions, list) and any(word in str(each) for each in extensions)


S = TypeVar("S")
R = TypeVar("R")


@dataclass(frozen=True)
class Case(Generic[S, R]):
    """One row of the suite.

    Attributes:
        id: stable name, such as `V2-INFER-007`.
        group: one of GROUPS.
        clause: where the rule is written.
        sends: what is sent, in words.
        holds: what must hold, in words.
        ask: builds it.
        judge: yields what does not hold.
        may_end: the server may end the connection instead of replying.
    """

    id: str
    group: str
    clause: str
    sends: str
    holds: str
    ask: Callable[[Subject], S]
    judge: Callable[[Subject, Sequence[R]], Iterable[str]]
    may_end: bool = False


HttpCase = Case[Dialogue, Reply]
GrpcCase = Case[Calls, Answer]


@dataclass(frozen=True, slots=True)
class Finding:
    """A case's verdict and what it rests on."""

    case: Case[Any, Any]
    verdict: Verdict
    why: str = ""


def judged(case: Case[S, R], subject: Subject, replies: Sequence[R]) -> Finding:
    """The verdict on these replies."""
    try:
        problems = list(case.judge(subject, replies))
    except NotApplicable as reason:
        return Finding(case, Verdict.INCONCLUSIVE, str(reason))
    except Unreadable as problem:
        problems = [str(problem)]
    return Finding(case, Verdict.FAIL, "; ".join(problems)) if problems else Finding(case, Verdict.PASS)
