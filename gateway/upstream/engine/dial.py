"""Opening a TCP connection to the first of several addresses that answers."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from gateway.upstream.engine.errors import ConnectFailed


async def dial(addresses: list[str], port: int, stagger_s: float) -> socket.socket:
    """A connected socket. Each address gets a head start before the next is tried beside it (RFC 8305).

    Whatever is not returned is closed, however this ends.

    Raises:
        ConnectFailed: every address refused.
    """
    if len(addresses) == 1:
        try:
            return await _connect(addresses[0], port)
        except OSError as error:
            raise ConnectFailed(f"{addresses[0]} port {port}: {error.strerror or 'connection failed'}") from None
    attempts: list[asyncio.Task[socket.socket]] = []
    winner: socket.socket | None = None
    try:
        for address in addresses:
            attempts.append(asyncio.ensure_future(_connect(address, port)))
            winner = await _first(attempts, stagger_s)
            if winner is not None:
                return winner
        winner = await _first(attempts, None)
        if winner is not None:
            return winner
        raise ConnectFailed(f"none of {len(addresses)} addresses accepts connections on port {port}")
    finally:
        _close_all_but(winner, attempts)


async def _first(attempts: list[asyncio.Task[socket.socket]], timeout_s: float | None) -> socket.socket | None:
    """The first success; None when the time is up, when the youngest attempt has failed before, or when all have."""
    end = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
    while True:
        for attempt in attempts:
            if attempt.done() and attempt.exception() is None:
                return attempt.result()
        pending = [a for a in attempts if not a.done()]
        left = None if end is None else end - asyncio.get_running_loop().time()
        if not pending or (left is not None and (left <= 0 or attempts[-1].done())):
            return None
        await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)


def _close_all_but(winner: socket.socket | None, attempts: list[asyncio.Task[socket.socket]]) -> None:
    for attempt in attempts:
        if attempt.done():
            if not attempt.cancelled() and attempt.exception() is None and attempt.result() is not winner:
                attempt.result().close()
        else:
            attempt.add_done_callback(_close_late)
            attempt.cancel()


def _close_late(attempt: asyncio.Task[socket.socket]) -> None:
    """Closes the socket of an attempt that succeeded although it was cancelled."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def _connect(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        with contextlib.suppress(AttributeError, OSError):  # not on every platform
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock
