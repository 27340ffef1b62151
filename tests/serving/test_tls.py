"""TLS of the scoring door, over real sockets: who gets a connection, and which certificate it shows."""

from __future__ import annotations

import asyncio
import http.client
import shutil
import socket
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop
from tests.doorkeeper import Authority

from interlock.apps.scorer.http import Connection, Exchange, Server
from interlock.apps.scorer.listening import Listening
from interlock.apps.scorer.tls import GRPC, Tls, tls_context
from interlock.base.clock import SystemClock
from interlock.base.errors import UsageError
from interlock.serving.options import ServingOptions
from interlock.trust.access import certificate_names

pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")]
SHOP = "spiffe://example.org/shop"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.leaf("server.pem")
    return made


def options(client_ca: str | None = None, cert: str | None = "server.pem", key: str | None = None) -> ServingOptions:
    return ServingOptions(tls_cert=cert, tls_key=key, tls_client_ca=client_ca)


def client(authority: Authority, leaf: Path | None = None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.root)
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    if version is not None:
        context.maximum_version = version
    if leaf is not None:
        context.load_cert_chain(leaf)
    return context


class Greeter(asyncio.Protocol):
    """Sends the names of whoever came, as a connection of the scoring door would know them."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        names = certificate_names(transport.get_extra_info("peercert") or {})
        cast("asyncio.Transport", transport).write(" ".join(names).encode() + b"\n")


async def visit(tls: Tls, *visitors: ssl.SSLContext) -> list[tuple[str, bytes]]:
    """What each visitor was told, and the certificate that it saw."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Greeter, "127.0.0.1", 0, ssl=tls.context)
    found = []
    async with server:
        for visitor in visitors:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=visitor)
            try:
                line = await reader.readline()
                if not line:
                    raise ConnectionResetError
                shown = writer.get_extra_info("ssl_object").getpeercert(True)
                found.append((line.decode().strip(), shown))
            finally:
                writer.transport.abort()
    return found


def run(tls: Tls, *visitors: ssl.SSLContext) -> list[tuple[str, bytes]]:
    return uvloop.run(visit(tls, *visitors))


def test_nothing_asked_for_is_plaintext(tmp_path: Path) -> None:
    assert tls_context(ServingOptions(), tmp_path) is None
    assert not Tls(ServingOptions(), tmp_path).refresh()


def test_a_visitor_needs_no_certificate_unless_clients_have_an_authority(authority: Authority) -> None:
    assert run(Tls(options(), authority.folder), client(authority))[0][0] == ""


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ({"uri": SHOP, "common_name": "x"}, SHOP),
        ({"dns": "shop.example.org"}, "shop.example.org"),
        ({"common_name": "shop"}, "shop"),
    ],
)
def test_a_client_is_known_by_its_certificate(authority: Authority, names: dict[str, str], wanted: str) -> None:
    tls = Tls(options("authority.pem"), authority.folder)
    assert run(tls, client(authority, authority.leaf("shop.pem", **names)))[0][0] == wanted


def test_without_a_certificate_of_the_authority_no_connection_comes_about(authority: Authority) -> None:
    tls = Tls(options("authority.pem"), authority.folder)
    other = Authority(authority.folder, "other").leaf("thief.pem", uri=SHOP)
    old = authority.leaf("old.pem", uri=SHOP, days=-1)
    for leaf in (None, other, old):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            run(tls, client(authority, leaf))


def test_tls_1_1_is_not_spoken(authority: Authority) -> None:
    tls = Tls(options(), authority.folder)
    assert tls.context is not None
    tls.context.set_ciphers("DEFAULT:@SECLEVEL=0")  # so that the version alone can be what is refused
    with pytest.raises((ssl.SSLError, ConnectionError)):
        run(tls, client(authority, version=ssl.TLSVersion.TLSv1_1))
    assert run(tls, client(authority, version=ssl.TLSVersion.TLSv1_2))


def test_a_renewed_certificate_is_shown_to_new_connections(authority: Authority) -> None:
    tls = Tls(options(), authority.folder)
    first = run(tls, client(authority))[0][1]
    assert not tls.refresh()
    authority.leaf("server.pem")
    assert tls.refresh()
    assert not tls.refresh()
    assert run(tls, client(authority))[0][1] != first


def test_a_broken_certificate_leaves_the_one_of_before(authority: Authority) -> None:
    tls = Tls(options(), authority.folder)
    first = run(tls, client(authority))[0][1]
    (authority.folder / "server.pem").write_bytes(b"nothing")
    assert not tls.refresh()
    (authority.folder / "server.pem").unlink()
    assert not tls.refresh()
    assert run(tls, client(authority))[0][1] == first


def test_an_authority_that_is_taken_away_lets_nobody_in_any_more(authority: Authority) -> None:
    tls = Tls(options("authority2.pem"), _copied(authority))
    shop = client(authority, authority.leaf("shop.pem", uri=SHOP))
    assert run(tls, shop)[0][0] == SHOP
    other = Authority(authority.folder, "other")
    shutil.copy(other.root, authority.folder / "authority2.pem")
    assert tls.refresh()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        run(tls, shop)


def _copied(authority: Authority) -> Path:
    shutil.copy(authority.root, authority.folder / "authority2.pem")
    return authority.folder


def scoring_door(authority: Authority, **changes: Any) -> tuple[Server, socket.socket]:
    given = replace(options("authority.pem"), linger_s=0.1, **changes)
    server = Server(_tell, lambda *_: None, given, SystemClock())
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return server, listener


def _tell(exchange: Exchange) -> None:
    exchange.respond(200, b"%d" % len(exchange.body))


def listening(server: Server, listener: socket.socket, tls: Tls, most: int, patience_s: float) -> Listening:
    return Listening(
        listener, lambda: Connection(server), lambda: len(server.connections), most, lambda: tls.context, patience_s
    )


def ask(authority: Authority, port: int, leaf: Path, times: int = 1) -> list[tuple[int, bytes]]:
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=client(authority, leaf), timeout=10)
    found = []
    for _ in range(times):
        connection.request("POST", "/x", b"x" * 100_000)
        reply = connection.getresponse()
        found.append((reply.status, reply.read()))
    connection.close()
    return found


def test_the_scoring_door_speaks_http_over_it_and_keeps_connections(authority: Authority) -> None:
    shop = authority.leaf("shop.pem", uri=SHOP)

    async def go() -> list[tuple[int, bytes]]:
        server, listener = scoring_door(authority)
        door = listening(server, listener, Tls(server.options, authority.folder), 8, 5.0)
        door.watch()
        found = await asyncio.to_thread(ask, authority, listener.getsockname()[1], shop, 3)
        await door.end(False, 1.0)
        return found

    assert uvloop.run(go()) == [(200, b"100000")] * 3


def test_visitors_who_never_shake_hands_keep_nobody_out(authority: Authority) -> None:
    shop = authority.leaf("shop.pem", uri=SHOP)

    async def go() -> list[tuple[int, bytes]]:
        server, listener = scoring_door(authority)
        door = listening(server, listener, Tls(server.options, authority.folder), 4, 0.2)
        door.watch()
        address = listener.getsockname()
        silent = [socket.create_connection(address) for _ in range(6)]  # more than there is room for
        found = await asyncio.to_thread(ask, authority, address[1], shop)
        for each in silent:
            each.close()
        await door.end(False, 1.0)
        return found

    assert uvloop.run(go()) == [(200, b"100000")]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (options(cert=None, client_ca="authority.pem"), "without a certificate"),
        (options(cert=None, key="server.pem"), "without a certificate"),
        (options(cert="nowhere.pem"), "cannot be used"),
        (options(key="authority.pem"), "cannot be used"),
        (options(client_ca="nowhere.pem"), "authorities cannot be used"),
        (options(client_ca="broken.pem"), "authorities cannot be used"),
    ],
)
def test_files_that_cannot_be_used_stop_the_start(authority: Authority, given: ServingOptions, why: str) -> None:
    (authority.folder / "broken.pem").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=why) as caught:
        tls_context(given, authority.folder)
    assert str(authority.folder) not in str(caught.value)


def test_grpc_is_offered_where_it_is_spoken(authority: Authority) -> None:
    visitor = client(authority)
    visitor.set_alpn_protocols(["h2", "http/1.1"])

    async def agreed(tls: Tls) -> str | None:
        server = await asyncio.get_running_loop().create_server(Greeter, "127.0.0.1", 0, ssl=tls.context)
        async with server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=visitor)
            found: str | None = writer.get_extra_info("ssl_object").selected_alpn_protocol()
            writer.transport.abort()
            return found

    assert uvloop.run(agreed(Tls(options(), authority.folder, GRPC))) == "h2"
    assert uvloop.run(agreed(Tls(options(), authority.folder))) == "http/1.1"
