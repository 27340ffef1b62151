"""What tests of access need: access files, issuers that sign, an authority that certifies. Real keys throughout."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from interlock.base.clock import NS_PER_S
from interlock.trust.apikey import ApiKey, mint

NOW_S = 1_790_000_000
NOW_NS = NOW_S * NS_PER_S
LATER = "2099-01-01T00:00:00Z"
ISSUER = "https://login.example.org/realms/shop"
AUDIENCE = "interlock"
_KEYS = {"RS256": RSAKey.generate_key(2048), "ES256": ECKey.generate_key("P-256"), "EdDSA": OKPKey.generate_key()}


def key(number: int = 1) -> ApiKey:
    """The same key for the same number."""
    return mint(hashlib.sha512(bytes([number])).digest()[:37])


def key_entry(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A key's entry as the file has it."""
    made = key(number)
    entry = {
        "id": made.id,
        "name": f"shop{number}",
        "sha256": made.digest.hex(),
        "roles": ["score"],
        "services": ["fraud"],
        "expires": LATER,
    }
    return {**entry, **changes}


def issuer_entry(**changes: Any) -> dict[str, Any]:
    """An issuer's entry as the file has it."""
    mapped = {"tellers": ["score"], "ops": ["operate", "observe"]}
    return {"issuer": ISSUER, "audience": AUDIENCE, "map": mapped, "services": "all", **changes}


def access_file(**sections: Any) -> bytes:
    """An access file of these sections; JSON is YAML."""
    return json.dumps({"apiVersion": "interlock.dev/v1alpha1", "kind": "Access", "spec": sections}, indent=1).encode()


def claims(**changes: Any) -> dict[str, Any]:
    """A token's claims that count at NOW_S."""
    body = {"iss": ISSUER, "aud": AUDIENCE, "sub": "tess", "groups": ["tellers"], "iat": NOW_S, "exp": NOW_S + 300}
    return {name: value for name, value in {**body, **changes}.items() if value is not None}


def b64(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Idp:
    """An identity provider: one key per algorithm, and the key set that it publishes."""

    def __init__(self, algorithm: str = "RS256", kid: str = "k1", key: Any = None) -> None:
        self.algorithm, self.kid = algorithm, kid
        self.key = key or _KEYS[algorithm]

    def sign(self, body: Mapping[str, Any] | None = None, **header: Any) -> str:
        """A signed token of these claims."""
        head = {"alg": self.algorithm, "kid": self.kid, "typ": "JWT", **header}
        data = json.dumps(claims() if body is None else body).encode()
        registry = jws.JWSRegistry(algorithms=[self.algorithm, "HS256", "none"], strict_check_header=False)
        return jws.serialize_compact(head, data, self.key, registry=registry)

    def sign_bytes(self, head: Mapping[str, Any], body: bytes) -> str:
        """What no library would make, with a signature that holds; RS256."""
        signed = f"{b64(json.dumps(head).encode())}.{b64(body)}"
        signature = self.key.private_key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{b64(signature)}"

    @property
    def public(self) -> dict[str, Any]:
        """The key as its set lists it."""
        return {**self.key.as_dict(private=False), "kid": self.kid, "use": "sig"}

    def key_set(self, *others: Idp) -> bytes:
        """What `jwks_uri` answers."""
        return json.dumps({"keys": [self.public, *(other.public for other in others)]}).encode()


class Website:
    """A real HTTP server on the loopback: path to answer; an answer may be bytes, a status, or a redirect."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.pages: dict[str, bytes | int | str] = {}
        self.asked: list[str] = []

    def publish(self, key_set: bytes, issuer: str | None = None) -> None:
        """Be an issuer with these keys."""
        document = {"issuer": issuer or self.url, "jwks_uri": f"{self.url}/keys"}
        self.pages["/.well-known/openid-configuration"] = json.dumps(document).encode()
        self.pages["/keys"] = key_set


@contextmanager
def website() -> Iterator[Website]:
    """One that answers until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            answer = site.pages.get(self.path, 404)
            status = answer if isinstance(answer, int) else 302 if isinstance(answer, str) else 200
            body = answer if isinstance(answer, bytes) else b"no"
            self.send_response(status)
            if isinstance(answer, str):
                self.send_header("location", answer)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = Website(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Authority:
    """A certificate authority with one root; leaves are written as PEM files of chain and key."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        root = self._builder(self._name, self._key).add_extension(constraints, critical=True)
        self.root = folder / f"{name}.pem"
        self.root.write_bytes(root.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def leaf(self, file: str, common_name: str = "", uri: str = "", dns: str = "", days: int = 1) -> Path:
        """A certificate and its key in one file; server and client use alike."""
        own = ec.generate_private_key(ec.SECP256R1())
        names = [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)] if common_name else []
        builder = self._builder(x509.Name(names), own, days)
        alternatives: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)] if uri else []
        alternatives += [x509.DNSName(dns)] if dns else []
        if not alternatives and not common_name:
            alternatives = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        made = builder.sign(self._key, hashes.SHA256())
        path = self.folder / file
        path.write_bytes(
            made.public_bytes(serialization.Encoding.PEM)
            + own.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return path

    def _builder(self, name: x509.Name, own: ec.EllipticCurvePrivateKey, days: int = 1) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(now + datetime.timedelta(days=days))
        )
