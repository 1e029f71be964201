"""A connection under TLS. Both loops read ahead of it, and at the line's end forget what it has not taken yet."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, cast

from gateway.upstream.engine.connection import Connection

_RECORD_BYTES = 19 * 1024
"""More than any record takes (RFC 5246, section 6.2.3: 16 KiB and 2 KiB of overhead)."""


class TlsConnection(Connection):
    """The loops' TLS decrypts into the room that `get_buffer` gives it, and comes back for the rest a turn later. If
    the line ends in between, the rest is gone. So it may not read on from the socket, nor learn of the end, before we
    have taken all that it holds; and its last piece is taken whole.
    """

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        tls = cast(Any, transport)
        tls.set_read_buffer_limits(high=1, low=0)  # 256 KiB by default: far more than a slow reader may cost

    def get_buffer(self, sizehint: int) -> memoryview:
        """`sizehint` is what waits to be decrypted. The margins are for a record begun before, and for small ones that
        shrink by up to half.
        """
        room = super().get_buffer(sizehint)
        rest = 2 * len(room) + _RECORD_BYTES
        return self.pool.room[: rest + _RECORD_BYTES] if sizehint <= rest else room

    def eof_received(self) -> None:
        super().eof_received()
        assert self._transport is not None
        tls: ssl.SSLObject = self._transport.get_extra_info("ssl_object")
        try:
            self._ended = not tls.read(1)
        except ssl.SSLZeroReturnError:
            self._ended = True
        except ssl.SSLError:  # it waits for more: there was no close_notify, and anybody on the line can have cut it
            self._ended = False
