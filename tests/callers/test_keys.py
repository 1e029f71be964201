"""Keys as text and the pepper."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.callers.keys import Key, Pepper, is_key_id, is_tenant, mint, new_key_id, parse
from gateway.errors import masked


def test_a_minted_key_parses_into_its_parts() -> None:
    """What mint() writes, parse() reads."""
    key = mint("main", "abcdefghijkl", lambda n: b"\x01" * n)
    parsed = parse(key.reveal().encode())
    assert parsed is not None
    assert (parsed.tenant, parsed.key_id, len(parsed.secret)) == ("main", "abcdefghijkl", 43)
    assert key.reveal().startswith("gw1_main_abcdefghijkl_")


def test_the_largest_secret_fits_its_digits() -> None:
    """256 bits of ones lose nothing in 43 base62 digits."""
    parsed = parse(mint("main", "abcdefghijkl", lambda n: b"\xff" * n).reveal().encode())
    assert parsed is not None
    number = 0
    for digit in parsed.secret.decode():
        number = number * 62 + (string.digits + string.ascii_uppercase + string.ascii_lowercase).index(digit)
    assert number == 2**256 - 1


@given(place=st.integers(0, 73), letter=st.sampled_from(string.ascii_letters + string.digits + "_"))
def test_a_key_with_one_wrong_character_is_junk(place: int, letter: str) -> None:
    """The checksum finds every single wrong character."""
    key = mint("main", "abcdefghijkl", lambda n: bytes(range(n))).reveal()
    assert len(key) == 71
    wrong = key[: place % 71] + letter + key[place % 71 + 1 :]
    assert (parse(wrong.encode()) is None) == (wrong != key)


@given(st.binary(max_size=300))
def test_no_bytes_make_parse_raise(token: bytes) -> None:
    """Whatever is sent is a key or is not."""
    assert parse(token) is None


@pytest.mark.parametrize(
    "token", [b"", b"gw1_", b"gw1_main_x\r\n", "gw1_mäin".encode(), b"gw1_" + b"a" * 10_000, b"\0"]
)
def test_hostile_tokens_are_junk(token: bytes) -> None:
    """Line breaks, NUL, emoji and length are all just no key."""
    assert parse(token) is None


def test_a_valid_key_with_a_newline_behind_it_is_junk() -> None:
    """The pattern has no lenient end of line."""
    assert parse(mint("main", "abcdefghijkl").reveal().encode() + b"\n") is None


@pytest.mark.parametrize(("tenant", "key_id"), [("Main", "abcdefghijkl"), ("main", "short"), ("a}b", "abcdefghijkl")])
def test_ids_that_could_leave_their_place_are_not_minted(tenant: str, key_id: str) -> None:
    """Ids become part of store keys, so their alphabet is closed."""
    with pytest.raises(ValueError, match="cannot be written"):
        mint(tenant, key_id)


def test_key_ids_are_of_one_form_and_differ() -> None:
    """Made ids fit the pattern that routes check."""
    ids = {new_key_id() for _ in range(200)}
    assert len(ids) == 200
    assert all(is_key_id(key_id) for key_id in ids)
    assert not is_key_id("abcdefghijkl\n")
    assert not is_tenant("main\n")


def test_digests_depend_on_the_pepper() -> None:
    """The store alone cannot be tested against guessed keys."""
    one, other = Pepper(b"p" * 16), Pepper(b"q" * 16)
    assert one.digest(b"key") == Pepper(b"p" * 16).digest(b"key")
    assert len({one.digest(b"key"), other.digest(b"key"), one.seal(b"key"), one.fingerprint}) == 4


def test_a_short_pepper_is_refused() -> None:
    """A guessable pepper is as good as none."""
    with pytest.raises(ValueError, match="TIERGATE_PEPPER"):
        Pepper(b"short")


def test_keys_do_not_show_themselves() -> None:
    """Neither the minted nor the parsed key has a telling repr, and log masking knows the prefix."""
    key = mint("main", "abcdefghijkl")
    assert key.reveal() not in f"{key!r}{key}"
    parsed = parse(key.reveal().encode())
    assert isinstance(parsed, Key)
    assert parsed.secret.decode() not in repr(parsed)
    assert key.reveal() not in masked(f"refused {key.reveal()} today")
