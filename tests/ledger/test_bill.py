"""Bills as files: read as they are, refused with the line where they cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.bill import batches, read_bill

AID = "0190" + "0" * 28


def test_csv_and_lines_of_json_say_the_same() -> None:
    """Columns in any order and case, the ones left empty left out; money stays text."""
    csv = f"Cost_USD,Client-Request-Id,input,output\n0.0000012,{AID},10,\n1e-3,{AID},,7\n".splitlines(keepends=True)
    json = [
        f'{{"attempt_id":"{AID}","cost_usd":"0.0000012","input":10}}\n',
        "\n",
        f'{{"attempt_id":"{AID}","cost_usd":0.001,"output":7}}\n',
    ]
    assert read_bill(csv, form="csv") == read_bill(json, form="jsonl")
    assert read_bill(csv, form="csv")[0] == {"attempt_id": AID, "cost_usd": "0.0000012", "usage": {"input": 10}}


@pytest.mark.parametrize(
    ("form", "text", "why"),
    [
        ("csv", "attempt_id,cost\nx,1\n", "line 2: unknown column 'cost'"),
        ("csv", "attempt_id\nx\n", "line 2: it has no cost_usd"),
        ("csv", "attempt_id,cost_usd\nx,1\nx,one\n", "line 3: cost_usd must be US dollars"),
        ("csv", "attempt_id,cost_usd\nx,-1\n", "line 2: cost_usd"),
        ("csv", "attempt_id,cost_usd\nx,NaN\n", "line 2: cost_usd"),
        ("csv", "attempt_id,cost_usd,input\nx,1,1.5\n", "line 2: input must be a whole number"),
        ("csv", "attempt_id,cost_usd\nx,1,2\n", "line 2: it has not as many fields"),
        ("csv", "", "it is empty; a bill begins with the line of its columns' names"),
        (
            "csv",
            "cost_usd,provider,model\n1,acme,m\n",
            "line 2: it needs attempt_id, or provider_request_id and day, or ",
        ),
        ("csv", "cost_usd,provider_request_id,day\n1,x,\n", "line 2: it needs attempt_id"),
        (
            "csv",
            "cost_usd,provider_request_id,day\n1,x,20261101\n",
            "line 2: day must be like 2026-11-30, not '20261101'",
        ),
        ("csv", "cost_usd,provider_request_id,day\n1,x,2026-02-30\n", "line 2: day must be like 2026-11-30"),
        ("jsonl", '{"attempt_id":"x","cost_usd":"1"}\n[]\n', "line 2: "),
        ("jsonl", '{"attempt_id":"x","cost_usd":tru\n', "line 1: "),
    ],
)
def test_a_bad_line_is_named(form: str, text: str, why: str) -> None:
    """With what is wrong with it."""
    with pytest.raises(ValueError, match="^" + why):
        read_bill(text.splitlines(keepends=True), form=form)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["attempt_id", "model"])), max_size=40), st.integers(1, 7))
def test_rows_of_one_subject_stay_together(subjects: list[tuple[int, str]], most: int) -> None:
    """Nothing is lost, attempts come first, and no subject is in two batches."""
    rows = [{kind: f"{n:032x}", "cost_usd": str(i)} for i, (n, kind) in enumerate(subjects)]
    parts = list(batches(rows, most))
    flat = [row for part in parts for row in part]
    assert sorted(row["cost_usd"] for row in flat) == sorted(row["cost_usd"] for row in rows)
    assert ["attempt_id" in row for row in flat] == sorted(("attempt_id" in row for row in rows), reverse=True)
    seen = [{row.get("attempt_id") or "m" + str(row.get("model")) for row in part} for part in parts]
    assert sum(map(len, seen)) == len(set().union(*seen))
    assert all(len(part) <= most or len(names) == 1 for part, names in zip(parts, seen, strict=True))
