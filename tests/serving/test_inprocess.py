"""`predict` in the process that has the models: the same answers and errors as over V1."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving.asgi import ROOT, make_root, metric, serving_app
from serving.echo import make_echoes
from serving.held import held_app
from serving.refusals import ROW, V1, X

from headgate.errors import (
    DeadlineExceededError,
    HeadgateError,
    InputError,
    OverloadError,
    ServingError,
    UnknownModelError,
)
from headgate.predictor import Field
from headgate.serving import Predictions, in_process, inprocess, predict


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    with serving_app(make_root(tmp_path_factory.mktemp("root"))) as asked:
        yield asked


ROWS = st.fixed_dictionaries(
    {
        "carrier": st.none() | st.sampled_from(["UA", "nan", "", 7]),
        "distance": st.integers(0, 5000) | st.none() | st.just(0.5),
        "wind": st.none() | st.floats(width=32),
    }
)


@given(rows=st.lists(ROWS, max_size=6))
@settings(max_examples=100, deadline=None)
def test_it_says_what_v1_says(asked, rows):
    try:
        found = asked.run(predict("late-flights", rows))
    except InputError as error:
        finite = all(row["wind"] is None or math.isfinite(row["wind"]) for row in rows)
        if finite:  # JSON has no other numbers
            said = asked.post(V1, json={"instances": rows})
            assert said.status_code == 400
            told = {"error": error.what, "where": error.where, "remedy": error.remedy}
            assert told == said.json()
        return
    plain = [{key: None if _is_nan(each) else each for key, each in row.items()} for row in rows]
    said = asked.post(V1, json={"instances": plain})
    assert said.status_code == 200
    assert found == said.json()["predictions"]
    assert json.loads(json.dumps(found)) == found
    who = (found.model_name, found.model_version, found.release)
    assert who == ("late-flights", "1", "test:1")


def _is_nan(value):
    return isinstance(value, float) and math.isnan(value)


def test_it_is_a_list_that_knows_who_made_it(asked):
    found = asked.run(predict("breast-cancer", [X, X], version="1", deadline_ms=5000))
    assert isinstance(found, Predictions)
    assert isinstance(found, list)
    assert len(found) == 2


def test_what_is_no_number_is_null_as_in_json(tmp_path):
    field = Field(name="x", dtype="float32", nullable=True)
    with serving_app(make_echoes(tmp_path, {"echo": (field,)})) as asked:
        found = asked.run(predict("echo", [{"x": 1.5}, {"x": None}]))
        said = asked.post("/v1/models/echo:predict", json={"instances": [{"x": 1.5}, {"x": None}]})
    assert found == said.json()["predictions"] == [1.5, None]


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        ({"name": "early-flights"}, UnknownModelError, "served here: breast-cancer, late-flights"),
        ({"version": "2"}, UnknownModelError, "served here: version 1"),
        ({"rows": []}, InputError, "instances"),
        ({"rows": [{}]}, InputError, "column 'carrier' is missing"),
        ({"rows": None}, InputError, "instances"),
        ({"rows": [ROW] * 10_001}, InputError, "send at most 10000 rows"),
        ({"deadline_ms": 0}, InputError, "deadline_ms"),
        ({"deadline_ms": math.nan}, InputError, "deadline_ms"),
        ({"deadline_ms": "1"}, InputError, "deadline_ms"),
    ],
)
def test_errors_are_the_tree_s(asked, arguments, kind, says):
    asking = {"name": "late-flights", "rows": [ROW], **arguments}
    with pytest.raises(kind, match=says):
        asked.run(predict(asking.pop("name"), asking.pop("rows"), **asking))


def test_a_deadline_is_kept(tmp_path):
    with held_app(make_root(tmp_path, serving="max_queue_rows = 2\n")) as (asked, held):

        async def late():
            with pytest.raises((DeadlineExceededError, OverloadError)):
                await predict("late-flights", [ROW], deadline_ms=30)

        async def crowd():
            with held.back():
                first = asyncio.create_task(predict("late-flights", [ROW]))
                await held.waiting(asked, "late-flights", 0)
                others = [asyncio.create_task(predict("late-flights", [ROW])) for _ in range(4)]
                done, _ = await asyncio.wait(others, return_when=asyncio.FIRST_EXCEPTION)
                assert any(isinstance(each.exception(), OverloadError) for each in done)
                first.cancel()
                await asyncio.wait([first])
            await asyncio.wait(others)

        with held.back():
            asked.run(late())
        asked.run(crowd())
        asked.worker.flush()
        counted = {
            outcome: metric("headgate_requests_total", surface="app", outcome=outcome)
            for outcome in ("ok", "overload", "gone")
        }
    assert counted["gone"] == 1
    assert counted["overload"] >= 2
    assert counted["ok"] >= 1


def test_it_is_counted(asked):
    def count(outcome):
        asked.worker.flush()
        labels = {"surface": "app", "model": "breast-cancer", "outcome": outcome}
        return metric("headgate_requests_total", **labels)

    before = count("ok"), count("input")
    asked.run(predict("breast-cancer", [X]))
    with pytest.raises(InputError):
        asked.run(predict("breast-cancer", [[1]]))
    assert (count("ok"), count("input")) == (before[0] + 1, before[1] + 1)


def test_another_thread_s_loop_is_refused(asked):
    asked.run(predict("breast-cancer", [X]))
    caught = []

    def elsewhere():
        try:
            asyncio.run(predict("breast-cancer", [X]))
        except HeadgateError as error:
            caught.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    [error] = caught
    assert isinstance(error, ServingError)
    assert "anyio.from_thread.run" in error.remedy


def test_without_a_server_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr(inprocess, "_here", None)
    with pytest.raises(ServingError, match="in_process"):
        asyncio.run(predict("late-flights", [ROW]))


def test_a_test_needs_no_server(tmp_path, monkeypatch):
    """One after the other, each with its own loop, and from within one."""
    monkeypatch.setattr(inprocess, "_here", None)
    root = make_root(tmp_path)
    for _ in range(2):
        with in_process(root):
            first = asyncio.run(predict("late-flights", [ROW]))
            assert asyncio.run(predict("late-flights", [ROW])) == first
            assert first.release == "dev"

    async def within():
        with in_process(root):
            return await predict("late-flights", [ROW])

    assert asyncio.run(within()) == first
    assert inprocess._here is None


def test_nothing_packaged_is_said_so(tmp_path):
    with pytest.raises(ServingError, match="nothing is packaged yet"), in_process(tmp_path):
        pass


def test_the_package_stays_light():
    code = "import sys, headgate.serving; print('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "False\n"
    with pytest.raises(ImportError):
        from headgate.serving import nothing  # noqa: F401
