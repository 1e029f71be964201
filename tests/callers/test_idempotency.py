"""The Idempotency-Key header."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from stores import StoreServer

from gateway.callers.caller import Caller, bootstrap_caller
from gateway.callers.idempotency import LARGEST_BYTES, Answer, Claim, Idempotency
from gateway.callers.roles import Role
from gateway.callers.sealing import Seal
from gateway.errors import CallerError, GatewayError, GatewayUnavailable, Kind

BODY = b'{"model":"fast","messages":[{"role":"user","content":"a canary prompt"}]}'
PATH = b"/v1/chat/completions"
ANSWER = Answer(200, b"content-type: application/json\r\n", b'{"choices":["a canary answer"]}')
HEADER = b"Bearer gw1_main_abcdefghijkl_secret"


def caller(key_id: str = "abcdefghijkl", tenant: str = "main") -> Caller:
    return bootstrap_caller(tenant, key_id, Role.APP)


async def claimed(store: Redis, key: bytes = b"order-17", body: bytes = BODY) -> Claim:
    claim = await Idempotency(store).claim(caller(), HEADER, key, PATH, body)
    assert isinstance(claim, Claim)
    return claim


async def refused(store: Redis, key: bytes = b"order-17", body: bytes = BODY, header: bytes = HEADER) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await Idempotency(store).claim(caller(), header, key, PATH, body)
    return caught.value


async def test_a_repeat_gets_the_stored_answer(store: Redis) -> None:
    """Same key, same body: the same answer, from any replica."""
    await (await claimed(store)).keep(ANSWER)
    assert await Idempotency(store).claim(caller(), HEADER, b"order-17", PATH, BODY) == ANSWER


async def test_another_body_under_the_same_key_is_refused(store: Redis) -> None:
    """422 while the first runs and after it."""
    claim = await claimed(store)
    assert (await refused(store, body=BODY + b" ")).kind is Kind.IDEMPOTENCY_MISMATCH
    await claim.keep(ANSWER)
    error = await refused(store, body=BODY + b" ")
    assert (error.status, error.kind) == (422, Kind.IDEMPOTENCY_MISMATCH)


async def test_a_repeat_while_the_first_runs_is_refused(store: Redis) -> None:
    """409, and only one of many at once is let through."""
    answers = await asyncio.gather(
        *(Idempotency(store).claim(caller(), HEADER, b"order-17", PATH, BODY) for _ in range(20)),
        return_exceptions=True,
    )
    assert sum(isinstance(a, Claim) for a in answers) == 1
    assert {a.status for a in answers if isinstance(a, CallerError)} == {409}


async def test_a_failed_request_may_be_sent_again(store: Redis) -> None:
    """Release frees the key."""
    await (await claimed(store)).release()
    await claimed(store)


@pytest.mark.parametrize("large", [False, True])
async def test_what_was_not_kept_is_refused_rather_than_charged_again(store: Redis, large: bool) -> None:
    """Streams and answers over the limit: a clear 422 with its own code."""
    claim = await claimed(store)
    if large:
        await claim.keep(Answer(200, b"", b"x" * LARGEST_BYTES))
    else:
        await claim.keep_nothing()
    error = await refused(store)
    assert (error.status, error.code) == (422, "idempotency_answer_not_kept")


async def test_keys_belong_to_their_caller(store: Redis) -> None:
    """Another key or tenant may use the same Idempotency-Key."""
    await (await claimed(store)).keep(ANSWER)
    for other in (caller("zzzzzzzzzzzz"), caller(tenant="other")):
        assert isinstance(await Idempotency(store).claim(other, HEADER, b"order-17", PATH, BODY), Claim)


async def test_another_secret_of_the_same_key_cannot_read_the_answer(store: Redis) -> None:
    """After a rotation a repeat is refused, not charged again and not answered."""
    await (await claimed(store)).keep(ANSWER)
    assert (await refused(store, header=HEADER + b"2")).kind is Kind.IDEMPOTENCY_MISMATCH


async def test_the_store_learns_neither_prompt_nor_answer_nor_key(store: Redis) -> None:
    """Everything that it holds is sealed with keys it does not have, and goes away by itself."""
    claim = await claimed(store)
    (name,) = await store.keys("*")
    running = await store.get(name)
    await claim.keep(ANSWER)
    kept = await store.get(name)
    assert not any(word in name + running + kept for word in (b"canary", b"order-17", b"secret", b"choices"))
    assert 0 < await store.ttl(name) <= 600


async def test_a_late_first_request_cannot_touch_its_successor(store: Redis) -> None:
    """A claim that has expired meanwhile is not ended by its old owner."""
    late = await claimed(store)
    await store.flushall()
    await claimed(store)
    await late.keep(ANSWER)
    await late.release()
    assert (await refused(store)).kind is Kind.IDEMPOTENCY_IN_FLIGHT


@pytest.mark.parametrize("key", [b"", b"a b", b"a\r\nb", "ü".encode(), b"x" * 256])
async def test_a_key_that_is_none_is_refused(store: Redis, key: bytes) -> None:
    """400, naming the header."""
    error = await refused(store, key=key)
    assert (error.status, error.param) == (400, "Idempotency-Key")


async def test_without_the_store_nothing_is_promised(own_store: StoreServer) -> None:
    """503 before the request is served; a request that was served already is not failed."""
    client = own_store.client()
    claim = await claimed(client)
    own_store.stop()
    await claim.keep(ANSWER)
    assert isinstance(await refused(client, key=b"order-18"), GatewayUnavailable)
    await client.aclose()


@given(plain=st.binary(max_size=2000), flip=st.integers(min_value=0))
def test_a_sealed_text_opens_only_unchanged_and_with_its_own_keys(plain: bytes, flip: int) -> None:
    """Any flipped bit, another credential or another key opens nothing."""
    seal = Seal(b"token", b"key")
    sealed = seal.close(plain)
    assert seal.open(sealed) == plain
    bit = flip % (len(sealed) * 8)
    changed = (int.from_bytes(sealed) ^ 1 << bit).to_bytes(len(sealed))
    assert seal.open(changed) is None
    assert Seal(b"token2", b"key").open(sealed) is None
    assert Seal(b"token", b"key2").open(sealed) is None
    assert seal.open(sealed[:20]) is None


def test_the_same_text_is_sealed_differently_each_time() -> None:
    """A fresh nonce each time."""
    seal = Seal(b"token", b"key")
    assert seal.close(b"text") != seal.close(b"text")
