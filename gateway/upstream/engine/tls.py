"""TLS contexts: verified, with SNI and ALPN, sessions resumed, own CA and client certificate where configured."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import certifi

from gateway.types import Origin

ContextFactory = Callable[[Origin], ssl.SSLContext]

_MOST_SESSIONS = 1024


class ResumingContext(ssl.SSLContext):
    """A client context that offers the last session of a host, which saves a round trip and the certificate's check.

    asyncio and uvloop have no argument for a session, but both make their TLS objects with `wrap_bio`.
    """

    sessions: dict[str, ssl.SSLSession]

    def wrap_bio(  # type: ignore[override]  # same arguments, given by name
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        session = session or self.sessions.get(server_hostname or "")
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def remember(self, tls: ssl.SSLObject) -> None:
        """Keeps the session of a connection that has answered; TLS 1.3 sends its tickets after the handshake."""
        if tls.session is not None and tls.server_hostname is not None:
            if len(self.sessions) >= _MOST_SESSIONS:
                self.sessions.clear()
            self.sessions[tls.server_hostname] = tls.session


def client_context(ca_file: str | None = None, client_cert: str | None = None) -> ResumingContext:
    """A verifying context. `ca_file` replaces the trusted roots; `client_cert` is a PEM file of certificate and key.

    Raises:
        OSError, ssl.SSLError: a file cannot be read or is not PEM.
    """
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sessions = {}
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
