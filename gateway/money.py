"""Units of money, which is always an integer: nano-USD, and pico-USD where it is per token."""

from __future__ import annotations

NANO_PER_USD = 1_000_000_000
PICO_PER_NANO = 1_000


def usd(nano: int) -> str:
    """Nano-USD in dollars as a plain decimal, exact, two digits or more after the point: 412_000 -> `0.000412`."""
    sign, nano = ("-", -nano) if nano < 0 else ("", nano)
    whole, rest = divmod(nano, NANO_PER_USD)
    digits = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{digits}"
