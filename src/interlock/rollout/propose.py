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
# Judges every proposal as the controller will, and proposes a registered version on request.
#
# Judging needs no secret and no installation. Proposing runs beside the installation, whose home knows the
# registered versions. Set in this repository: the variables INTERLOCK_RUNNER (label of a runner on which
# `interlock` is installed), INTERLOCK_HOME (its home) and INTERLOCK_AUTHOR ('Name <mail>', listed in
# people.json), and the secret INTERLOCK_SIGNING_KEY (that author's SSH key).
name: release
on:
  pull_request:
    branches: [main]
  workflow_dispatch:
    inputs:
      service:
        description: Service to release
        required: true
        default: fraud
        type: string
      model_version:
        description: Registered version to propose
        required: true
        type: string

permissions: {}

concurrency:
  group: release-${{ github.event_name }}-${{ github.ref }}-${{ inputs.service }}
  cancel-in-progress: ${{ github.event_name == 'pull_request' }}

jobs:
  check:
    if: github.event_name == 'pull_request'
    runs-on: ubuntu-latest
    timeout-minutes: 10
    permissions:
      contents: read
    steps:
      - uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2
        with:
          fetch-depth: 0
          persist-credentials: false
      - uses: actions/setup-python@a26af69be951a213d495a4c3e4e4022e16d87065 # v5.6.0
        with:
          python-version: "3.12"
      - run: pip install "PACKAGE"
      - run: interlock release check . --base "origin/$BASE"
        env:
          BASE: ${{ github.base_ref }}

  propose:
    if: github.event_name == 'workflow_dispatch'
    runs-on: ${{ vars.INTERLOCK_RUNNER || 'self-hosted' }}
    timeout-minutes: 10
    permissions:
      contents: write
      pull-requests: write
    env:
      SERVICE: ${{ inputs.service }}
      MODEL_VERSION: ${{ inputs.model_version }}
    steps:
      - uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2
        with:
          ref: main
          fetch-depth: 0
      - name: Propose the version on a branch of its own
        env:
          INTERLOCK_HOME: ${{ vars.INTERLOCK_HOME }}
          AUTHOR: ${{ vars.INTERLOCK_AUTHOR }}
          SIGNING_KEY: ${{ secrets.INTERLOCK_SIGNING_KEY }}
        run: |
          key="$RUNNER_TEMP/interlock-signing-key"
          trap 'rm -f "$key"' EXIT
          (umask 077 && printf '%s\\n' "$SIGNING_KEY" > "$key")
          interlock release propose --repo . --author "$AUTHOR" --sign "$key" -- "$SERVICE" "$MODEL_VERSION"
      - name: Open the pull request
        env:
          GH_TOKEN: ${{ github.token }}
        run: |
          gh pr create --base main --head "release/$SERVICE-$MODEL_VERSION" \\
            --title "Release $SERVICE $MODEL_VERSION" \\
            --body "Approve it with 'interlock approve'. Squashing or rebasing here would drop its signature."
"""

_ARGO = """\
# The controller is the only writer of live InferenceServices: Argo CD shows them, and syncs nothing. The
# window denies every sync, by hand too, at every minute of the day.
apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata: {name: interlock-production, namespace: argocd}
spec:
  sourceRepos: [REPOSITORY]
  destinations: [{server: https://kubernetes.default.svc, namespace: production}]
  syncWindows:
    - {kind: deny, schedule: "* * * * *", duration: 24h, applications: ["*"], manualSync: false}
---
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: interlock-production, namespace: argocd}
spec:
  project: interlock-production
  source:
    repoURL: REPOSITORY
    targetRevision: main
    path: environments/production/services
    directory: {recurse: true, include: "*/inferenceservice.yaml"}
  destination: {server: https://kubernetes.default.svc, namespace: production}
"""

_README = """\
# Release repository

`main` is what should serve. A release is a pull request that changes one service folder; it needs the
signatures that `policy/tiers.yaml` asks for, over exactly that folder, under `approvals/`. Where the tier says
`commits: signed`, its commits carry their authors' SSH signatures: merge them by a merge commit or fast-forward,
since squashing and rebasing on the forge drops signatures.

    interlock release propose fraud 1.0.0 --sign ~/.ssh/id_ed25519
    interlock statement fraud --role technical > s.json
    ssh-keygen -Y sign -n interlock-approval -f ~/.ssh/id_ed25519 s.json
    interlock approve s.json s.json.sig

Protect `main`: no force-push, and `release / check` must pass. A pushed webhook (`POST /v1/webhooks/git`, with the
secret of `control.webhook_secret`) saves waiting for the next poll.
"""

_CODEOWNERS = """\
# Who must review what: adapt the teams. People, policies and what checks them are themselves under quorum.
/people.json            @risk @compliance
/policy/                @risk @compliance
/environments/          @ml-engineering @risk
/.github/               @platform @risk
/CODEOWNERS             @risk @compliance
/argocd/                @platform
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


def scaffold(people: bytes, tiers: bytes, repository: str, version: str | None = None) -> dict[str, bytes]:
    """The first files of a release repository.

    Args:
        people: people.json.
        tiers: policy/tiers.yaml.
        repository: its URL.
        version: of Interlock that its CI installs; None: the newest.
    """
    package = "interlock[serve,control]" + (f"=={version}" if version else "")
    return {
        "README.md": _README.encode(),
        "CODEOWNERS": _CODEOWNERS.encode(),
        "people.json": people,
        "policy/tiers.yaml": tiers,
        "policy/freeze.yaml": _FREEZE.encode(),
        "environments/production/services/.gitkeep": b"",
        ".github/workflows/release.yml": _WORKFLOW.replace("PACKAGE", package).encode(),
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
