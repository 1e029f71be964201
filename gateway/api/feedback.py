"""POST /v1/feedback: what an app says of an answer it got."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.http import read_body
from gateway.callers.callers import credential
from gateway.callers.records import STORE_AWAY, store_away
from gateway.callers.roles import Permission
from gateway.errors import CallerError, Kind, bad_request
from gateway.gateway import Gateway
from gateway.routing.feedback import MOST_A_DAY, Opinion

_LARGEST_BODY = 16 * 1024
_EXPERIMENT = "experiment:"


class _Given(Struct, forbid_unknown_fields=True):
    """The body."""

    request_id: Annotated[str, Meta(pattern=r"^req_[0-9a-f]{32}$")]
    score: Annotated[float, Meta(ge=-1, le=1)] | None = None
    label: Annotated[str, Meta(pattern=r"^[\w.-]{1,48}$")] | None = None
    comment: Annotated[str, Meta(min_length=1, max_length=2000)] | None = None


_decoder = msgspec.json.Decoder(_Given)


async def take_feedback(request: Request) -> Response:
    """Keeps a score, a label or both for a request of the caller's own key."""
    gateway: Gateway = request.app.state.gateway
    client = request.client.host if request.client else None
    caller = await gateway.callers.identify(credential(request.scope["headers"]), client)
    caller.require(Permission.INFER)
    given = _read(await read_body(dict(request.scope["headers"]), request.receive, _LARGEST_BODY))
    try:
        found = await gateway.ledger.journal.entries_of(caller.tenant, given.request_id)
        mine = [entry for entry in found if entry["key"] == caller.key_id]
        if not mine:
            raise CallerError(
                Kind.NOT_FOUND, "This key made no such request, or it is not booked yet.", param="request_id"
            )
        opinion = Opinion(gateway.clock(), _arms(mine), given.score, given.label, given.comment)
        kept = await gateway.feedback.put(caller.tenant, given.request_id, mine[0]["at"], opinion)
    except STORE_AWAY:
        raise store_away() from None
    if not kept:
        raise CallerError(Kind.RATE_LIMIT, f"There is feedback on {MOST_A_DAY:,} requests of that day; that is enough.")
    body = {"object": "feedback", "request_id": given.request_id, "arms": opinion.arms}
    return Response(msgspec.json.encode(body), media_type="application/json")


def _read(body: bytes) -> _Given:
    try:
        given = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text, _, path = str(error).partition(" - at ")
        raise bad_request(f"Invalid feedback: {text}.", path.strip("`").removeprefix("$.") or None) from None
    if given.score is None and given.label is None:
        raise bad_request("Give a score from -1 to 1, a label, or both.", "score")
    return given


def _arms(entries: list[dict[str, Any]]) -> dict[str, str]:
    tags: dict[str, str] = entries[0]["tags"]
    return {name.removeprefix(_EXPERIMENT): arm for name, arm in tags.items() if name.startswith(_EXPERIMENT)}
