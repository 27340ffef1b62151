"""What a proposal writes: the three manifests of a service, and the first files of a repository."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from interlock.decision.table import Segments
from interlock.rollout.policy import parse_policy
from interlock.rollout.spec import API

DEFAULT_POLICY = f"""\
apiVersion: {API}
kind: RolloutPolicy
metadata:
  name: SERVICE
spec:
  strategy: canary
  steps:
    - shadow: 3s
    - {{weight: 10, for: 2s}}
    - {{weight: 50, for: 2s}}
    - {{weight: 100}}
  watch: {{holdback: 0.05, for: 30m}}
  budget: 0.01
  deadline: 15m
"""

_WORKFLOW = """\
# Checks every proposal as the controller will: strict manifests, digests, policies.
name: release
on:
  pull_request:
  workflow_dispatch:
    inputs:
      service: {description: Service to release, default: fraud}
      model_version: {description: Registered version to propose, required: true}
jobs:
  check:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {python-version: "3.12"}
      - run: pip install interlock
      - run: interlock release check .
"""

_ARGO = """\
# The controller is the only writer of live InferenceServices: Argo CD shows this folder, and syncs nothing.
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: interlock-production, namespace: argocd}
spec:
  project: default
  source: {repoURL: REPOSITORY, targetRevision: main, path: environments/production}
  destination: {server: https://kubernetes.default.svc, namespace: production}
"""

_README = """\
# Release repository

`main` is what should serve. A release is a pull request that changes one service folder; it needs the
signatures that `policy/tiers.yaml` asks for, over exactly that folder, under `approvals/`.

    interlock release propose fraud 1.0.0
    interlock statement fraud --role technical > s.json
    ssh-keygen -Y sign -n interlock-approval -f ~/.ssh/id_ed25519 s.json
    interlock approve s.json s.json.sig
"""

_CODEOWNERS = """\
# Who must review what: adapt the teams. People and policies are themselves under quorum.
/people.json            @risk @compliance
/policy/                @risk @compliance
/environments/          @ml-engineering @risk
"""

_FREEZE = f"""\
apiVersion: {API}
kind: FreezeCalendar
metadata: {{name: production}}
spec:
  windows: []
"""


class Model(msgspec.Struct, frozen=True):
    """A registered version, as a proposal needs it (the body of `model.registered`)."""

    service: str
    version: str
    bundle: str
    feature_set: str
    threshold_set: str


def manifests(
    model: Model, policy: str | None = None, fallback: str = "REVIEW", routing: Segments | None = None
) -> dict[str, bytes]:
    """The files of the service's folder; a policy given is checked before it is written.

    Args:
        model: what is to be released.
        policy: text of `rollout.yaml`; None: the default policy.
        fallback: the constant decision.
        routing: the segments that other services decide.

    Raises:
        UsageError: the policy breaks a rule, with its line.
    """
    text = policy if policy is not None else DEFAULT_POLICY.replace("SERVICE", model.service)
    parse_policy(text, "rollout.yaml")
    release = [
        f"apiVersion: {API}",
        "kind: Release",
        "metadata:",
        f"  name: {model.service}",
        "spec:",
        f'  version: "{model.version}"',
        f"  bundle: {model.bundle}",
        f"  featureSet: {model.feature_set}",
        f"  thresholdSet: {model.threshold_set}",
        f"  fallback: {{decision: {fallback}}}",
        "  shadows: []",
        *([] if routing is None else ["  routing:", f"    field: {routing.field}", "    services:"]),
        *([] if routing is None else [f"      {value}: {name}" for value, name in sorted(routing.services.items())]),
    ]
    runs_on = [
        "apiVersion: serving.kserve.io/v1beta1",
        "kind: InferenceService",
        "metadata:",
        f"  name: {model.service}",
        "spec:",
        "  predictor:",
        "    minReplicas: 1",
    ]
    return {
        "release.yaml": _lines(release),
        "rollout.yaml": text.encode(),
        "inferenceservice.yaml": _lines(runs_on),
    }


def scaffold(people: bytes, tiers: bytes, repository: str) -> dict[str, bytes]:
    """The first files of a release repository."""
    return {
        "README.md": _README.encode(),
        "CODEOWNERS": _CODEOWNERS.encode(),
        "people.json": people,
        "policy/tiers.yaml": tiers,
        "policy/freeze.yaml": _FREEZE.encode(),
        "environments/production/services/.gitkeep": b"",
        ".github/workflows/release.yml": _WORKFLOW.encode(),
        "argocd/application.yaml": _ARGO.replace("REPOSITORY", json.dumps(repository)).encode(),
    }


def models(bodies: list[dict[str, Any]]) -> dict[tuple[str, str], Model]:
    """Registered models by (service, version), from the bodies of `model.registered`."""
    found = {}
    for body in bodies:
        model = msgspec.convert({name: body[name] for name in Model.__struct_fields__}, Model)
        found[model.service, model.version] = model
    return found


def _lines(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
