"""TLS towards providers: verified, named, resumed; with a private CA and client certificates where configured."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import os
import random
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from raw_peer import Session, answer, chunked, listening

from gateway.types import Endpoint, Origin, Timeouts
from gateway.upstream.engine import Engine, Limits, errors
from gateway.upstream.engine.tls import client_context

_TIMEOUTS = Timeouts()
_NAMED = x509.SubjectAlternativeName([x509.DNSName("api.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
_BORN = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


@dataclass
class Authority:
    """A CA of our own, with the files that it signs."""

    folder: Path

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{self.folder.name} CA")])
        self.certificate = self._signed(self.name, self.key.public_key(), x509.BasicConstraints(True, None))
        self.ca_file = self._write("ca.pem", self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *extensions: x509.ExtensionType) -> str:
        """A PEM file of certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        pem = self._signed(subject, key.public_key(), *extensions).public_bytes(serialization.Encoding.PEM)
        pem += key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._write(f"{name}.pem", pem)

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *extensions: x509.ExtensionType
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder(self.name, subject, key, x509.random_serial_number())
        builder = builder.not_valid_before(_BORN).not_valid_after(_BORN + datetime.timedelta(days=36500))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self.key, hashes.SHA256())

    def _write(self, name: str, pem: bytes) -> str:
        path = self.folder / name
        path.write_bytes(pem)
        return str(path)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def _server(pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def _endpoint(origin: Origin) -> Endpoint:
    return Endpoint(origin, "POST", "/", ())


async def _telling(session: Session) -> None:
    """Says which protocol was agreed on, whether the session was resumed and who the client is."""
    tls = session.writer.get_extra_info("ssl_object")
    peer = (tls.getpeercert() or {}).get("subject", ((("", ""),),))
    while True:
        await session.request()
        text = f"{tls.selected_alpn_protocol()} {tls.session_reused} {peer[0][0][1]}"
        await session.send(answer(text.encode(), b"200 OK", b"connection: close"))
        return


async def test_a_private_ca_is_trusted_where_the_origin_names_it(engine: Engine, authority: Authority) -> None:
    """And its sessions are resumed by later connections."""
    tls = _server(authority.issue("server", _NAMED))
    tls.set_alpn_protocols(["http/1.1"])
    async with listening(_telling, tls) as peer:
        endpoint = _endpoint(replace(peer.origin, ca_file=authority.ca_file))
        answers = [await (await engine.send(endpoint, b"x", _TIMEOUTS)).read() for _ in range(3)]
    assert answers == [b"http/1.1 False ", b"http/1.1 True ", b"http/1.1 True "]


def test_a_private_ca_takes_the_place_of_the_public_ones(authority: Authority) -> None:
    """Who names a CA trusts no other; without one there are the public roots. Nothing older than TLS 1.2 is spoken."""
    private, public = client_context(authority.ca_file), client_context()
    (trusted,) = private.get_ca_certs(binary_form=True)
    assert trusted == authority.certificate.public_bytes(serialization.Encoding.DER)
    assert public.verify_mode == private.verify_mode == ssl.CERT_REQUIRED
    assert public.check_hostname
    assert private.check_hostname
    assert public.minimum_version == private.minimum_version == ssl.TLSVersion.TLSv1_2


async def test_a_host_that_refuses_its_sessions_is_not_asked_for_more(authority: Authority) -> None:
    """Where no session is ever resumed, none is kept after a few tries."""
    tls = _server(authority.issue("server", _NAMED))
    context = client_context(authority.ca_file)
    engine = Engine(ssl_context=lambda _origin: context)
    tls.num_tickets = 0
    tls.options |= ssl.OP_NO_TICKET
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    async with listening(_telling, tls) as peer:
        endpoint = _endpoint(peer.origin)
        for _ in range(5):
            assert (await (await engine.send(endpoint, b"x", _TIMEOUTS)).read()).split()[1] == b"False"
        await engine.aclose()
    assert (context.sessions, context.refusals) == ({}, {"127.0.0.1": 3})


async def test_an_unknown_ca_is_refused_before_anything_is_sent(engine: Engine, authority: Authority) -> None:
    """Without `ca_file` only public roots are trusted."""
    async with listening(_telling, _server(authority.issue("server", _NAMED))) as peer:
        with pytest.raises(errors.TlsFailed, match="certificate was not accepted") as caught:
            await engine.send(_endpoint(peer.origin), b"x", _TIMEOUTS)
        assert not caught.value.sent
        assert peer.requests == []


async def test_a_certificate_for_another_name_is_refused(authority: Authority) -> None:
    """The name asked for must stand in the certificate, whatever address it resolves to."""

    async def resolver(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    names: list[str | None] = []
    tls = _server(authority.issue("server", _NAMED))
    tls.sni_callback = lambda _socket, name, _context: names.append(name)  # type: ignore[assignment,misc]
    engine = Engine(resolver=resolver)
    async with listening(_telling, tls) as peer:
        origin = replace(peer.origin, ca_file=authority.ca_file)
        response = await engine.send(_endpoint(replace(origin, host="api.test")), b"x", _TIMEOUTS)
        assert response.status == 200
        with pytest.raises(errors.TlsFailed):
            await engine.send(_endpoint(replace(origin, host="other.test")), b"x", _TIMEOUTS)
        await engine.aclose()
    assert names == ["api.test", "other.test"]


async def test_a_client_certificate_is_shown_where_the_origin_has_one(engine: Engine, authority: Authority) -> None:
    """The server sees who calls; without it the server refuses."""
    tls = _server(authority.issue("server", _NAMED))
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(authority.ca_file)
    async with listening(_telling, tls) as peer:
        origin = replace(peer.origin, ca_file=authority.ca_file)
        endpoint = _endpoint(replace(origin, client_cert=authority.issue("gateway")))
        assert (await (await engine.send(endpoint, b"x", _TIMEOUTS)).read()).endswith(b" gateway")
        with pytest.raises(errors.EngineError):
            await engine.send(_endpoint(origin), b"x", _TIMEOUTS)


async def test_unusable_files_are_reported_as_such(engine: Engine, authority: Authority) -> None:
    """A missing CA file and a certificate that is none."""
    Path(authority.ca_file).with_name("junk.pem").write_bytes(b"junk")
    junk = str(Path(authority.ca_file).with_name("junk.pem"))
    origin = Origin("https", "127.0.0.1", 1, allow_private=True)
    for broken in (replace(origin, ca_file="/nowhere.pem"), replace(origin, client_cert=junk)):
        with pytest.raises(errors.TlsFailed, match="not usable"):
            await engine.send(_endpoint(broken), b"x", _TIMEOUTS)


async def test_a_peer_without_tls_is_refused(engine: Engine) -> None:
    """Plain HTTP on a TLS port fails the handshake."""

    async def handle(session: Session) -> None:
        await session.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with listening(handle) as peer:
        with pytest.raises(errors.EngineError) as caught:
            await engine.send(_endpoint(replace(peer.origin, scheme="https")), b"x", _TIMEOUTS)
        assert not caught.value.sent


async def test_large_bodies_cross_tls_both_ways(engine: Engine, authority: Authority) -> None:
    """With back-pressure on, over one connection."""
    body = b"0123456789abcdef" * 200_000

    async def handle(session: Session) -> None:
        while True:
            request = await session.request()
            await session.send(answer(request.partition(b"\r\n\r\n")[2]))

    async with listening(handle, _server(authority.issue("server", _NAMED))) as peer:
        endpoint = _endpoint(replace(peer.origin, ca_file=authority.ca_file))
        for _ in range(2):
            response = await engine.send(endpoint, body, _TIMEOUTS)
            assert b"".join([data async for data in response.chunks()]) == body
        assert peer.accepted == 1


@contextlib.contextmanager
def _hanging_up(tls: ssl.SSLContext, raw: bytes, *, farewell: bool) -> Iterator[Origin]:
    """Answers one request with these bytes and closes at once, with TLS's own ending of the line or without."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            sock = tls.wrap_socket(listener.accept()[0], server_side=True)
            sock.recv(65_536)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024 * 1024)
            sock.sendall(raw)
            if farewell:
                sock.setblocking(False)
                with contextlib.suppress(ssl.SSLError):
                    sock.unwrap()
            os.close(sock.detach())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Origin("https", "127.0.0.1", listener.getsockname()[1], allow_private=True)
    finally:
        listener.close()
        thread.join()


@pytest.mark.parametrize("pause_s", [0.0, 0.002], ids=["fast", "slow"])
@pytest.mark.parametrize("farewell", [True, False])
async def test_what_came_just_before_the_end_of_the_line_is_not_lost(
    engine: Engine, authority: Authority, farewell: bool, pause_s: float
) -> None:
    """Whatever the layers below hold undecrypted when the provider closes, its reader gets the whole answer."""
    raw = answer(b"a" * 200_000, b"200 OK", b"connection: close")
    with _hanging_up(_server(authority.issue("server", _NAMED)), raw, farewell=farewell) as origin:
        response = await engine.send(_endpoint(replace(origin, ca_file=authority.ca_file)), b"x", _TIMEOUTS)
        size = 0
        async for data in response.chunks():
            size += len(data)
            await asyncio.sleep(pause_s)
        assert size == 200_000


async def test_an_answer_of_unknown_length_ends_with_the_farewell_of_tls(engine: Engine, authority: Authority) -> None:
    """Without it anybody on the line can have cut the answer short (RFC 9112, section 9.8)."""
    tls = _server(authority.issue("server", _NAMED))
    raw = b"HTTP/1.1 200 OK\r\n\r\nfirst half, "
    with _hanging_up(tls, raw, farewell=True) as origin:
        response = await engine.send(_endpoint(replace(origin, ca_file=authority.ca_file)), b"x", _TIMEOUTS)
        assert await response.read() == b"first half, "
    with _hanging_up(tls, raw, farewell=False) as origin:
        response = await engine.send(_endpoint(replace(origin, ca_file=authority.ca_file)), b"x", _TIMEOUTS)
        with pytest.raises(errors.Truncated):
            await response.read()


async def test_a_slow_reader_stops_the_provider_over_tls_too(engine: Engine, authority: Authority) -> None:
    """What TLS reads ahead of a reader is about one read of the socket, not its usual quarter of a megabyte."""
    written = 0

    async def handle(session: Session) -> None:
        nonlocal written
        written = 0
        session.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        session.writer.transport.set_write_buffer_limits(1)
        await session.request()
        await session.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n")
        await narrowed.wait()
        while True:
            await session.send(b"a" * 4096)
            written += 4096

    stalled_at = []
    for tls in (None, _server(authority.issue("server", _NAMED))):
        narrowed = asyncio.Event()
        async with listening(handle, tls) as peer:
            endpoint = _endpoint(replace(peer.origin, ca_file=authority.ca_file))
            response = await engine.send(endpoint, b"x", _TIMEOUTS)
            (connection,) = engine._watch.open
            line = connection._transport.get_extra_info("socket")
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            narrowed.set()
            await asyncio.sleep(0.3)
            stalled_at.append(written)
            response.abort()
            await asyncio.sleep(0.01)
    assert 0 < stalled_at[1] < stalled_at[0] + 240 * 1024  # 64 of them are ahead in the TLS of this provider


async def test_churn_over_tls_leaks_no_socket_and_no_slot(authority: Authority) -> None:
    """Cancelled amid the handshake, the request or the answer, or left early: all slots are there again afterwards."""
    dice = random.Random(11)
    patient = Timeouts(pool_s=20, connect_s=20)

    async def handle(session: Session) -> None:
        while True:
            await session.request()
            pieces = chunked(*[b"a" * dice.randrange(1, 40_000)] * 3)
            await session.send(pieces[:100], pieces[100:], gap_s=0.001)

    async def one(engine: Engine, endpoint: Endpoint) -> None:
        response = await engine.send(endpoint, b"x", patient)
        try:
            if (end := dice.randrange(3)) == 0:
                await response.read()
            elif end == 1:
                await anext(response.chunks())
                response.finish()
        finally:
            response.abort()

    async def churn(engine: Engine, endpoint: Endpoint) -> None:
        for _ in range(15):
            with contextlib.suppress(TimeoutError, errors.EngineError):
                async with asyncio.timeout(dice.random() * 0.03):
                    await one(engine, endpoint)

    tls = _server(authority.issue("server", _NAMED))
    descriptors = []
    for _ in range(2):
        engine = Engine(Limits(connections_per_origin=6))
        async with listening(handle, tls) as peer:
            endpoint = _endpoint(replace(peer.origin, ca_file=authority.ca_file))
            await asyncio.gather(*(churn(engine, endpoint) for _ in range(10)))
            at_once = await asyncio.gather(*(engine.send(endpoint, b"x", patient) for _ in range(6)))
            assert [response.status for response in at_once] == [200] * 6
            assert engine.open_connections <= 6
            await engine.aclose()
            assert engine.open_connections == 0
        await asyncio.sleep(0.05)
        descriptors.append(len(os.listdir("/proc/self/fd")))
    assert descriptors[1] <= descriptors[0]
