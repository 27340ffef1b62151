"""The whole table of cases, and which of them a run takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from interlock.apps.conformance import (
    cases_binary,
    cases_faults,
    cases_grpc,
    cases_http,
    cases_infer,
    cases_repository,
    cases_server,
    cases_v1,
)
from interlock.apps.conformance.case import GROUPS, Case
from interlock.base.errors import UsageError

CASES: tuple[Case[Any, Any], ...] = (
    *cases_v1.CASES,
    *cases_server.CASES,
    *cases_infer.CASES,
    *cases_faults.CASES,
    *cases_http.CASES,
    *cases_binary.CASES,
    *cases_grpc.CASES,
    *cases_repository.CASES,
)


def chosen(only: Iterable[str]) -> tuple[Case[Any, Any], ...]:
    """The cases of these groups; all of them when none is named.

    Raises:
        UsageError: a group does not exist.
    """
    names = [each for each in only if each]
    if unknown := sorted(set(names) - set(GROUPS)):
        raise UsageError(f"{len(unknown)} unknown group(s) of cases", f"known: {', '.join(GROUPS)}")
    return tuple(case for group in GROUPS for case in CASES if case.group == group and (not names or group in names))
