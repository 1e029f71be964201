"""Plans in words."""

from __future__ import annotations

import msgspec
from made_catalogs import NOW, deployment, needs, price, snapshot, tier

from gateway.routing.explain import MOST_HEADER_BYTES, explain, explain_header
from gateway.routing.plan import Planner
from gateway.types import Facts, Health, Options, Plan


def planned(count: int = 2, unhealthy: str = "p/m0") -> Plan:
    """An explained plan over so many deployments, of which one is unhealthy."""
    catalog = snapshot(tier("fast", *(deployment(f"p/m{i}", price(1 + i, 2)) for i in range(count))))
    facts = Facts(NOW, health={unhealthy: Health("open", NOW + 5, "über")})
    wanted = needs(input_tokens=1000, output_tokens=100)
    return Planner(catalog).plan("fast", catalog.targets["fast"], wanted, Options(), facts, explain=True)


def test_an_explanation_names_costs_and_reasons() -> None:
    """The second cheapest is chosen because the cheapest is unwell."""
    assert explain(planned()) == {
        "alias": "fast",
        "tier": "fast",
        "substituted": None,
        "candidates": [
            {
                "rank": 1,
                "deployment": "p/m1",
                "provider": "p",
                "model": "m1",
                "region": None,
                "price": "2/2@0",
                "expected_usd": "0.0022",
            }
        ],
        "dropped": [{"deployment": "p/m0", "rule": "healthy", "reason": "breaker open (über), for 5.0 s more"}],
        "arms": {},
        "steps": [
            "candidates: p/m0, p/m1",
            "access: no change",
            "context: no change",
            "price_known: no change",
            "max_cost: no change",
            "healthy: dropped p/m0",
            "cheapest: no change",
        ],
    }


def test_an_explanation_names_the_arms() -> None:
    """Of every experiment that the request takes part in."""
    halves = {"experiment": {"name": "size", "arms": {"a": {"weight": 1}, "b": {"weight": 1}}}}
    catalog = snapshot(tier("fast", deployment("p/m0", price(1, 2)), policy=[halves]))
    made = Planner(catalog).plan(
        "fast", catalog.targets["fast"], needs(), Options(), Facts(NOW, subject=1), explain=True
    )
    assert explain(made)["arms"] == {"size": made.arms[0].name}


def test_the_header_is_one_line_of_ascii_json() -> None:
    """It can be sent as it is, whatever a reason contains."""
    line = explain_header(planned())
    assert line.isascii()
    assert b"\n" not in line
    said = msgspec.json.decode(line)
    assert said["candidates"] == [{"deployment": "p/m1", "expected_usd": "0.0022"}]
    assert said["dropped"][0]["reason"] == "breaker open (über), for 5.0 s more"


def test_a_long_header_is_cut_and_says_so() -> None:
    """Proxies refuse large headers; the first candidates are what matters most."""
    line = explain_header(planned(500, "p/m3"))
    said = msgspec.json.decode(line)
    assert len(line) <= MOST_HEADER_BYTES
    assert said["candidates"][0]["deployment"] == "p/m0"
    assert said["omitted"] + len(said["candidates"]) + len(said["dropped"]) == 500
