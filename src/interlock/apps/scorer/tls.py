"""TLS of the scoring door: from the options to a context for new connections, renewed with its files.

Contract. TLS 1.2 or newer. With `tls_client_ca` a client certificate is required and verified: no
connection comes about without one, and who it is comes from `trust.access.certificate_names`.
Sessions are not resumed then, since a resumed one would outlive its certificate. When the files
change, new connections get the new certificate and old ones stay; what cannot be loaded is
logged, and the context of before goes on.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from pathlib import Path

from interlock.base.errors import InterlockError, UsageError
from interlock.serving.options import ServingOptions

HTTP = ("http/1.1",)
GRPC = ("h2",)
_log = logging.getLogger(__name__)
_Mark = tuple[tuple[int, int, int], ...]


def tls_context(options: ServingOptions, home: Path, protocols: Sequence[str] = HTTP) -> ssl.SSLContext | None:
    """The server's context, or None for plaintext.

    Args:
        options: names the files.
        home: what relative names are relative to.
        protocols: offered by ALPN (RFC 7301).

    Raises:
        UsageError: options that do not go together, or a file that cannot be used.
    """
    if options.tls_cert is None:
        if options.tls_key is not None or options.tls_client_ca is not None:
            raise UsageError("TLS options without a certificate", "set scoring.tls_cert, or none of them")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(list(protocols))
    certificate, key, authorities = (_place(home, name) for name in _names(options))
    try:
        # An empty password makes an encrypted key fail here instead of asking the terminal.
        context.load_cert_chain(certificate or "", key, password="")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the scoring door's certificate or key cannot be used ({_why(error)})",
            "check scoring.tls_cert and scoring.tls_key: PEM, belonging together, the key not encrypted",
        ) from error
    if authorities is not None:
        try:
            context.load_verify_locations(authorities)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"the client authorities cannot be used ({_why(error)})", "check scoring.tls_client_ca: PEM"
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


class Tls:
    """The context of now, and whether its files have changed.

    Args:
        options: names the files.
        home: what relative names are relative to.
        protocols: offered by ALPN.

    Raises:
        UsageError: as `tls_context`.
    """

    def __init__(self, options: ServingOptions, home: Path, protocols: Sequence[str] = HTTP) -> None:
        self._options, self._home, self._protocols = options, home, protocols
        self._mark = self._look()
        self.context = tls_context(options, home, protocols)
        """For connections that begin now; None: plaintext."""

    def refresh(self) -> bool:
        """Load the files anew if they have changed; whether there is a new context. Cheap when not."""
        mark = self._look()
        if mark == self._mark:
            return False
        self._mark = mark
        try:
            self.context = tls_context(self._options, self._home, self._protocols)
        except InterlockError as error:
            _log.error("the certificate of before stays: %s", error)
            return False
        _log.info("new connections get the new certificate")
        return True

    def _look(self) -> _Mark:
        return tuple(_stat(_place(self._home, name)) for name in _names(self._options))


def _names(options: ServingOptions) -> tuple[str | None, str | None, str | None]:
    return options.tls_cert, options.tls_key, options.tls_client_ca


def _place(home: Path, name: str | None) -> Path | None:
    return None if name is None else home / name


def _stat(path: Path | None) -> tuple[int, int, int]:
    if path is None:
        return (0, 0, 0)
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _why(error: OSError | ValueError) -> str:
    """What happened, without the path that an OSError's text repeats."""
    if isinstance(error, ssl.SSLError):
        return error.reason or "not PEM"
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
