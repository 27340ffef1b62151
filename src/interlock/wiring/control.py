"""The control process's rows: settings to adapters to the reconciler."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from interlock.base.errors import RefusedError, UnreachableError
from interlock.base.files import create_once
from interlock.settings import Settings

if TYPE_CHECKING:
    from interlock.adapters.git.source import GitSource
    from interlock.adapters.git.workspace import Workspace
    from interlock.adapters.oidc.verifier import Verifier as TokenVerifier
    from interlock.adapters.sql.events import SqlEventStore
    from interlock.rollout.ports import Scorers
    from interlock.trust.log import LogWriter
    from interlock.trust.note import Verifier
    from interlock.trust.principal import Issuer

_CONTROLLER_KEY = "controller.key"


def event_store(settings: Settings) -> SqlEventStore:
    """The one events table of this installation."""
    from interlock.adapters.sql.events import SqlEventStore

    return SqlEventStore.open(settings.places.events)


def api_token(settings: Settings) -> str:
    """The bearer token of the control API, made on first use; readable by its owner alone."""
    path = settings.places.run / "control.token"
    return create_once(path, lambda: secrets.token_urlsafe(32).encode()).decode().strip()


def notify_secret(settings: Settings, make: bool = True) -> bytes:
    """The file of the secrets that notices are signed with; readable by its owner alone.

    Args:
        settings: name the file; without a name it is made on first use.
        make: False: nothing is made, and what is not there yet is empty.

    Raises:
        RefusedError: others may read it.
        UnreachableError: it is not there.
    """
    from interlock.rollout.notices import write_secret

    given = settings.notify.secret
    path = settings.places.trust / "notify.secret" if given is None else settings.home / given
    try:
        if given is None and not path.exists():
            return create_once(path, lambda: write_secret(secrets.token_bytes(32))) if make else b""
        if path.stat().st_mode & 0o077:
            raise RefusedError("others may read the secret of notices", "give it the mode 0600")
        return path.read_bytes()
    except OSError as error:
        raise UnreachableError("the secret of notices cannot be read", "see notify.secret") from error


def token_verifier(
    settings: Settings, issuers: Collection[Issuer], before: TokenVerifier | None
) -> TokenVerifier | None:
    """Verifies tokens of these issuers, with the keys that `before` holds; None when none is listed."""
    if not issuers:
        return None
    from interlock.adapters.oidc.verifier import Verifier as TokenVerifier  # without issuers nobody loads it

    return TokenVerifier(issuers, settings.places.trust, before)


def scorers(settings: Settings) -> Scorers:
    """The supervisors that this controller steers."""
    from interlock.adapters.scorers.client import ScorerClient

    return ScorerClient(settings.places.admin_socket)


def source(settings: Settings) -> GitSource | None:
    """The release repository that the settings name, if any."""
    from interlock.adapters.git.identity import controller
    from interlock.adapters.git.source import GitSource

    if settings.rollout.repository is None:
        return None
    return GitSource(
        settings.home / "repository",
        settings.rollout.repository,
        settings.rollout.branch,
        controller(settings.places.trust / _CONTROLLER_KEY),
        settings.rollout.git_timeout_s,
    )


def sequenced_log(settings: Settings) -> LogWriter:
    """The writer of this deployment's transparency log."""
    from interlock.adapters.files.keys import log_signer
    from interlock.trust.log import LogWriter

    return LogWriter(settings.places.log, log_signer(settings.places.trust))


def log_verifier(settings: Settings) -> Verifier:
    """The log's public key."""
    from interlock.adapters.files.keys import log_signer

    return log_signer(settings.places.trust).verifier


def working_copy(settings: Settings, repo: Path) -> Workspace:
    """A person's working copy of the release repository, in which this home's controller is known by its key."""
    from interlock.adapters.git.identity import known_controller
    from interlock.adapters.git.workspace import Workspace

    return Workspace(repo, controller=known_controller(settings.places.trust / _CONTROLLER_KEY))
