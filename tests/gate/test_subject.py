from __future__ import annotations

import json
import socket

import numpy as np
import pytest
from gate.loads import REFERENCE, asked
from gate.server import SIGNATURE, serving

from headgate.errors import GateError, InputError, ServingError
from headgate.gate.subject import reach
from headgate.predictor.rows import batch_to_rows

SENT = batch_to_rows(SIGNATURE, REFERENCE.inputs)


def test_every_row_is_in_a_request_and_nulls_are_nulls() -> None:
    asks = asked().asks
    assert [json.loads(ask.body)["instances"] for ask in asks] == [[row] for row in SENT]
    assert {ask.path for ask in asks} == {"/v1/models/m:predict"}


def test_several_rows_a_request_the_last_of_them_from_the_begin() -> None:
    found = asked(rows=5, rate=60)
    assert (found.rows, found.rate) == (5, 60)
    groups = [json.loads(ask.body)["instances"] for ask in found.asks]
    assert {len(group) for group in groups} == {5}
    assert len(groups) == 13
    assert [row for group in groups for row in group] == SENT + SENT[:1]


def test_more_rows_than_there_are() -> None:
    (ask,) = asked(rows=150).asks
    assert json.loads(ask.body)["instances"] == SENT + SENT + SENT[:22]


def test_a_name_that_is_no_path_as_it_stands() -> None:
    assert {ask.path for ask in asked("späte 5%? a#b").asks} == {
        "/v1/models/sp%C3%A4te%205%25%3F%20a%23b:predict"
    }


def test_an_empty_reference() -> None:
    with pytest.raises(GateError, match="has no rows, so there is nothing to send") as caught:
        asked(known=REFERENCE.take(slice(0, 0)))
    assert caught.value.where == "m"


def test_its_answers_are_known() -> None:
    found = asked(rows=2)
    body = json.dumps(
        {
            "predictions": [
                {
                    "label": str(REFERENCE.outputs["label"][row]),
                    "probabilities": np.float64(REFERENCE.outputs["probabilities"][row]).tolist(),
                }
                for row in (2, 3)
            ]
        }
    ).encode()
    assert found.answers.compare([1, 0], [200, 200], [body, body]).matched.tolist() == [True, False]


def test_somebody_is_there() -> None:
    with serving() as server:
        reach(server.url)
        reach(f"{server.url}/some/path?and=more")
    assert server.seen == []


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ServingError) as caught:
            reach(url)
    assert str(caught.value) == (
        f"{url}: nobody answers (Connection refused) — start it, or give another address"
    )


@pytest.mark.parametrize(
    "url",
    [
        "localhost:3000",
        "127.0.0.1:3000",
        "http://",
        "ftp://127.0.0.1:21",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:port",
        "http://[::1",
        f"http://{'a' * 70}",
        "",
    ],
)
def test_no_address(url: str) -> None:
    with pytest.raises(InputError, match="give http://host:port") as caught:
        reach(url)
    assert caught.value.where == url
