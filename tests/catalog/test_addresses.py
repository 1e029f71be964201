"""Where the catalog may send calls (S25)."""

from __future__ import annotations

import pytest

from gateway.catalog.addresses import check_base_url


@pytest.mark.parametrize(
    "url",
    ["https://api.example.com/v1", "http://api.example.com:8080", "https://[2606:4700::1111]/v1", "https://8.8.8.8"],
)
def test_public_addresses_are_taken(url: str) -> None:
    """Names and public addresses, with or without a port."""
    assert check_base_url(url, allow_private=False) == url


def test_a_trailing_slash_is_cut() -> None:
    """So that paths can be added to it."""
    assert check_base_url("https://api.example.com/v1/", allow_private=False) == "https://api.example.com/v1"


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "db.localhost",
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0.0.0.0",
        "10.1.2.3",
        "192.168.0.1",
        "172.16.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "metadata.google.internal",
        "metadata.google.internal.",
        "printer.local",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fd00::1]",
        "[::ffff:10.0.0.1]",
        "[::ffff:169.254.169.254]",
        "224.0.0.1",
    ],
)
def test_addresses_inside_our_network_need_leave(host: str) -> None:
    """However they are spelt; `allow_private` opens them."""
    url = f"http://{host}/v1"
    with pytest.raises(ValueError, match="if that is meant, add allow_private: true"):
        check_base_url(url, allow_private=False)
    assert check_base_url(url, allow_private=True) == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file:///etc/passwd", "must begin with https:// or http://"),
        ("gopher://x.example", "must begin with https:// or http://"),
        ("api.example.com/v1", "must begin with https:// or http://"),
        ("https://", "name a host"),
        ("https://user:pw@api.example.com", "holds a user or password"),
        ("https://user@api.example.com", "holds a user or password"),
        ("https://api.example.com/v1?key=1", "has a query or fragment"),
        ("https://api.example.com/v1#x", "has a query or fragment"),
        ("https://api.example.com:99999", "is not an address"),
        ("https://api.example.com:0", "names port 0"),
        ("https://[::1", "is not an address"),
        ("https://api.example.com/v1\r\nhost: x", "has blanks or control characters"),
        ("https://api.example.com/ v1", "has blanks or control characters"),
    ],
)
def test_what_is_no_plain_address_is_refused(url: str, said: str) -> None:
    """Even where private addresses are allowed."""
    with pytest.raises(ValueError, match=said):
        check_base_url(url, allow_private=True)
