"""What a plan depends on besides document and facts: which providers could be used when it was made, and which models
had vanished from their lists.

A document's version does not tell it: keys come and go with the environment, and models with the providers' lists.
Records name it by a short digest, and the store keeps what each digest stands for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b

import msgspec

from gateway.catalog.learned import Vanished
from gateway.catalog.snapshot import Snapshot
from gateway.types import Deployment, Tier

Unavailable = Mapping[str, str]
"""By provider, why it could not be used; by `provider/upstream id`, since which day (ISO) the provider listed it no
longer. Whatever is not in it could be used, and was listed."""

_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(dict[str, str])


def circumstances(snapshot: Snapshot) -> tuple[str, bytes]:
    """The digest of a snapshot's circumstances, and what it stands for, for `read()`."""
    gone = {f"{provider}/{upstream_id}": day for (provider, upstream_id), day in snapshot.vanished.items()}
    unusable = {p.name: p.unavailable for p in snapshot.providers.values() if p.unavailable is not None}
    text = _encoder.encode(gone | unusable)
    return blake2b(text, digest_size=4).hexdigest(), text


def read(text: bytes) -> Unavailable:
    """The circumstances that `circumstances()` wrote.

    Raises:
        ValueError: it is something else.
    """
    try:
        return _decoder.decode(text)
    except msgspec.DecodeError as error:
        raise ValueError(f"not a list of unavailable providers: {error}") from None


def vanished(unavailable: Unavailable) -> Vanished:
    """The part about models; names of providers have no slash."""
    places = ((name.partition("/"), day) for name, day in unavailable.items())
    return {(provider, upstream_id): day for (provider, slash, upstream_id), day in places if slash}


def under(snapshot: Snapshot, unavailable: Unavailable) -> Snapshot:
    """The same catalog where just these providers cannot be used. For plans only: it has no endpoints to call.

    Which models have vanished is a matter of compiling the document.
    """
    providers = {
        name: replace(provider, unavailable=unavailable.get(name)) for name, provider in snapshot.providers.items()
    }

    def moved(group: tuple[Deployment, ...]) -> tuple[Deployment, ...]:
        return tuple(replace(d, provider=providers[d.provider.name]) for d in group)

    def tier(made: Tier) -> Tier:
        overrides = tuple(replace(o, deployments=moved(o.deployments)) for o in made.overrides)
        return replace(made, deployments=moved(made.deployments), fallback=moved(made.fallback), overrides=overrides)

    tiers = {name: tier(made) for name, made in snapshot.tiers.items()}
    deployments = {d.name: d for d in moved(tuple(snapshot.deployments.values()))}
    targets = {
        name: replace(target, tier=tiers[target.name] if target.kind == "tier" else tier(target.tier))
        for name, target in snapshot.targets.items()
    }
    return replace(snapshot, providers=providers, deployments=deployments, tiers=tiers, targets=targets)
