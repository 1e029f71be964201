"""What the system knows of a connection beyond its bytes."""

from __future__ import annotations

import struct
import sys

if sys.platform == "linux":
    import fcntl
    import termios

    def unacknowledged_bytes(descriptor: int) -> int:
        """How many of the bytes written last the peer's system has not acknowledged to have; 0 where that is not known.

        Source: https://man7.org/linux/man-pages/man7/tcp.7.html, SIOCOUTQ (read 2026-11-21).
        """
        try:
            (waiting,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))
        except OSError:
            return 0
        return int(waiting)

else:

    def unacknowledged_bytes(descriptor: int) -> int:
        """Nothing is known here."""
        return 0
