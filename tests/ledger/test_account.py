"""What attempts have in common is kept once, and never taken for another's."""

from __future__ import annotations

import itertools
import time

import pytest
from books import CHANCE, PRICE

from gateway.ledger.account import account_of
from gateway.ledger.attempt import Attempt, new_request_id
from gateway.ledger.limits import Window
from gateway.ledger.records import aid_hour, cells, decode_envelope

_MEMBERS = {
    "tenant": "t1",
    "key": "k1",
    "team": "m1",
    "tags": (("app", "a\x1fb"), ("é", 'x"y')),
    "alias": "al",
    "tier": "ti",
    "model": "mo",
    "provider": "pr",
    "deployment": "de",
    "price_id": "p1",
    "catalog": "c1",
}


def _attempt(members: dict[str, object]) -> Attempt:
    now = time.time()
    request_id = new_request_id(now, CHANCE)
    return Attempt(request_id=request_id, at=now, account=account_of(*members.values()), price=PRICE, input_tokens=7)


def test_an_envelope_says_all_of_an_account_and_of_the_attempt() -> None:
    a = _attempt(_MEMBERS)
    a.windows = (Window("b:b1:total", 10_000, 0, True),)
    brief = a.seal()
    envelope = decode_envelope(a.envelope)
    assert envelope.brief == brief
    assert {name: getattr(envelope, name) for name in _MEMBERS} == _MEMBERS
    assert (envelope.aid, envelope.request_id, envelope.at) == (a.aid, a.request_id, a.at)
    assert (envelope.stream, envelope.retry, envelope.input_tokens, envelope.slab) == (False, 0, 7, "")


def test_an_entry_that_was_read_is_summed_up_where_its_attempt_is() -> None:
    a = _attempt(_MEMBERS)
    a.seal()
    assert cells(decode_envelope(a.envelope)) == cells(a)
    assert cells(a)[2:] == (
        "k1\x1fti\x1fmo\x1fpr\x1fde\x1fp1\x1fm1",
        ("app\x1fa b\x1fk1\x1fti\x1fmo\x1fpr\x1fde\x1fp1\x1fm1", 'é\x1fx"y\x1fk1\x1fti\x1fmo\x1fpr\x1fde\x1fp1\x1fm1'),
    )


@pytest.mark.parametrize("name", _MEMBERS)
def test_accounts_that_differ_in_anything_are_two(name: str) -> None:
    """Each is made, asked for in turn, and still says what it was made from."""
    other = {**_MEMBERS, name: (("app", "other"),) if name == "tags" else "other"}
    for members in itertools.islice(itertools.cycle((_MEMBERS, other)), 4):
        account = account_of(*members.values())
        assert {each: getattr(account, each) for each in _MEMBERS} == members
        assert account is account_of(*members.values())


def test_an_attempt_is_summed_up_in_the_hour_of_its_start() -> None:
    a = _attempt(_MEMBERS)
    a.at = 3_599.999
    assert cells(a)[:2] == ("1970010100", "19700101")
    a.at = 3_600.0
    assert cells(a)[:2] == ("1970010101", "19700101")
    a.at = 86_400.5
    assert cells(a)[:2] == ("1970010200", "19700102")


@pytest.mark.parametrize(("ms", "hour"), [(0, 0), (3_599_999, 0), (3_600_000, 1), (1_763_719_199_999, 489_921)])
def test_the_hour_of_an_attempt_id_changes_with_its_last_millisecond(ms: int, hour: int) -> None:
    assert aid_hour(f"{ms:012x}" + "7" * 20) == hour == ms // 3_600_000


def test_a_request_id_is_a_uuid_of_version_7() -> None:
    for _ in range(200):
        text = new_request_id(1_763_719_200.125, CHANCE)
        assert len(text) == 36
        assert text[:4] == "req_"
        assert int(text[4:16], 16) == 1_763_719_200_125
        assert text[16] == "7"
        assert text[20] in "89ab"
        assert text[-1] == "0"
    assert len({new_request_id(0.0, CHANCE) for _ in range(1000)}) == 1000
