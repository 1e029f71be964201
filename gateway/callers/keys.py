"""API keys as text, and the pepper under which their secrets are kept.

A key reads `gw1_<tenant>_<key id>_<43 base62 secret><6 base62 CRC-32>`. The secret has 256 bits, so one fast keyed hash
is the right way to keep it; the checksum lets mistyped and made-up keys be refused without asking the store; the prefix
feeds secret scanners.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from gateway.types import Secret

MAIN_TENANT = "main"

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_ID_LENGTH = 12
_SECRET_LENGTH = 43
_CHECK_LENGTH = 6
_KEY = re.compile(rb"(gw1_([a-z2-7]{1,26})_([a-z2-7]{12})_([0-9A-Za-z]{43}))([0-9A-Za-z]{6})")
_KEY_ID = re.compile(r"[a-z2-7]{12}")
_TENANT = re.compile(r"[a-z2-7]{1,26}")

RandomBytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Key:
    """A key taken apart. Well formed, which says nothing about whether it is known."""

    tenant: str
    key_id: str
    secret: bytes
    """The 43 base62 digits."""

    def __repr__(self) -> str:
        return f"Key({self.tenant}/{self.key_id})"


def parse(token: bytes) -> Key | None:
    """The parts of a key, or None where the text cannot be one. Never raises, whatever the bytes."""
    match = _KEY.fullmatch(token)
    if match is None:
        return None
    body, tenant, key_id, secret, check = match.groups()
    if check != _checksum(body):
        return None
    return Key(tenant.decode(), key_id.decode(), secret)


def mint(tenant: str, key_id: str, random: RandomBytes = secrets.token_bytes) -> Secret:
    """A new key for this key id, as text; its caller shows it once and keeps only a digest."""
    if not (is_tenant(tenant) and is_key_id(key_id)):
        raise ValueError(f"{tenant}/{key_id} cannot be written in a key")
    body = f"gw1_{tenant}_{key_id}_{_base62(int.from_bytes(random(32)), _SECRET_LENGTH)}"
    return Secret(body + _checksum(body.encode()).decode())


def new_key_id(random: RandomBytes = secrets.token_bytes) -> str:
    """An opaque key id of 60 random bits."""
    number = int.from_bytes(random(8))
    return "".join(_ID_ALPHABET[number >> 5 * place & 31] for place in range(_ID_LENGTH))


def is_key_id(text: str) -> bool:
    """Whether this is a key id in form; whatever is not never becomes part of a store key."""
    return _KEY_ID.fullmatch(text) is not None


def is_tenant(text: str) -> bool:
    """Whether this is a tenant id in form: up to 26 of a-z and 2-7."""
    return _TENANT.fullmatch(text) is not None


class Pepper:
    """A secret of the installation, kept apart from the store: who reads or writes the store alone can neither test
    guessed keys nor change what a key may do."""

    __slots__ = ("_digest_key", "_seal_key", "fingerprint")

    def __init__(self, value: bytes) -> None:
        if len(value) < 16:
            raise ValueError("the pepper is shorter than 16 bytes: set TIERGATE_PEPPER to a long random text")
        self._digest_key = _subkey(value, b"key digest")
        self._seal_key = _subkey(value, b"record seal")
        self.fingerprint = _subkey(value, b"fingerprint").hex()[:16]
        """Names the pepper without telling anything about it."""

    def digest(self, token: bytes) -> str:
        """What the store keeps of a credential."""
        return hmac.digest(self._digest_key, token, "sha256").hex()

    def seal(self, text: bytes) -> str:
        """A MAC over what must not be changed behind the gateway's back."""
        return hmac.digest(self._seal_key, text, "sha256").hex()


def _subkey(value: bytes, purpose: bytes) -> bytes:
    return hmac.digest(value, b"tiergate " + purpose, hashlib.sha256)


def _checksum(body: bytes) -> bytes:
    return _base62(zlib.crc32(body), _CHECK_LENGTH).encode()


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
