"""Sealing of kept answers: encryption and authentication under keys that only the caller's own request brings along.

Python's standard library has no authenticated cipher. This is the textbook composition of what it has: a keystream from
SHAKE-256 over a key and a fresh nonce, then HMAC-SHA256 over nonce and ciphertext (encrypt-then-MAC), under separate
keys. See docs/decisions/004-idempotency.md.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable

_NONCE = 16
_TAG = 32


class Seal:
    """Seals for one credential and one idempotency key; without both, nothing sealed can be read or made."""

    __slots__ = ("_cipher_key", "_print_key", "_random", "_tag_key")

    def __init__(
        self, token: bytes, idempotency_key: bytes, random: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        root = hmac.digest(token, b"tiergate idempotency 1\0" + idempotency_key, "sha256")
        self._cipher_key, self._tag_key, self._print_key = (
            hmac.digest(root, purpose, "sha256") for purpose in (b"cipher", b"tag", b"fingerprint")
        )
        self._random = random

    def fingerprint(self, request: bytes) -> bytes:
        """Tells two requests apart without telling anything about either."""
        return hmac.digest(self._print_key, request, "sha256")

    def close(self, plain: bytes) -> bytes:
        """`plain`, unreadable."""
        nonce = self._random(_NONCE)
        sealed = nonce + self._mask(nonce, plain)
        return sealed + hmac.digest(self._tag_key, sealed, "sha256")

    def open(self, sealed: bytes) -> bytes | None:
        """What was sealed, or None where it was not sealed with these keys or has been changed."""
        body, tag = sealed[:-_TAG], sealed[-_TAG:]
        if not hmac.compare_digest(tag, hmac.digest(self._tag_key, body, "sha256")):
            return None
        return self._mask(body[:_NONCE], body[_NONCE:])

    def _mask(self, nonce: bytes, text: bytes) -> bytes:
        stream = hashlib.shake_256(self._cipher_key + nonce).digest(len(text))
        return (int.from_bytes(text) ^ int.from_bytes(stream)).to_bytes(len(text))
