"""TLS contexts: verified, with SNI and ALPN, sessions resumed, own CA and client certificate where configured."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import certifi

from gateway.types import Origin

ContextFactory = Callable[[Origin], ssl.SSLContext]

_MOST_HOSTS = 1024
_MOST_REFUSALS = 3


class _ClientObject(ssl.SSLObject):
    offered = False
    """Whether it offered a session to resume."""


class ResumingContext(ssl.SSLContext):
    """A client context that offers a session of the same host, which saves a round trip and the certificate's check.

    asyncio and uvloop have no argument for a session, but both make their TLS objects with `wrap_bio`. A session is
    read after full handshakes only, and no more from hosts that refuse it: each read of `SSLObject.session` leaks
    about 5 KB in CPython 3.11.
    """

    sessions: dict[str, ssl.SSLSession]
    refusals: dict[str, int]
    """How often in a row each host has refused its session."""

    def wrap_bio(  # type: ignore[override]  # same arguments, given by name
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        session = session or self.sessions.get(server_hostname or "")
        tls = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        if isinstance(tls, _ClientObject):
            tls.offered = session is not None
        return tls

    def remember(self, tls: ssl.SSLObject) -> None:
        """Call once for each connection that has answered: TLS 1.3 sends its tickets after the handshake."""
        host = tls.server_hostname
        if host is None or not isinstance(tls, _ClientObject):
            return
        if tls.session_reused:
            self.refusals.pop(host, None)
            return
        if tls.offered:
            self.refusals[host] = self.refusals.get(host, 0) + 1
            self.sessions.pop(host, None)
        if host in self.sessions or self.refusals.get(host, 0) >= _MOST_REFUSALS:
            return
        if len(self.sessions) >= _MOST_HOSTS:
            self.sessions.clear()
            self.refusals.clear()
        session = tls.session
        if session is not None:
            self.sessions[host] = session


def client_context(ca_file: str | None = None, client_cert: str | None = None) -> ResumingContext:
    """A verifying context. `ca_file` replaces the trusted roots; `client_cert` is a PEM file of certificate and key.

    Raises:
        OSError, ssl.SSLError: a file cannot be read or is not PEM.
    """
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sessions = {}
    context.refusals = {}
    context.sslobject_class = _ClientObject
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    else:
        paths = ssl.get_default_verify_paths()
        if paths.cafile or paths.capath:
            context.load_default_certs()
        else:  # an image without the system's roots
            context.load_verify_locations(certifi.where())
    if client_cert is not None:
        context.load_cert_chain(client_cert)
    return context


class Contexts:
    """One context for each CA and client certificate, made when first needed."""

    def __init__(self) -> None:
        self._made: dict[tuple[str | None, str | None], ResumingContext] = {}

    def __call__(self, origin: Origin) -> ssl.SSLContext:
        key = (origin.ca_file, origin.client_cert)
        context = self._made.get(key)
        if context is None:
            context = self._made[key] = client_context(*key)
        return context
