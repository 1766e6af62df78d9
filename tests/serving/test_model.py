"""Which model is asked, and what is known of it before anybody asks."""

from __future__ import annotations

import pytest
from predictor.factory import make_bundle
from serving.workers import worker_at

from headgate.errors import UnknownModelError
from headgate.serving.model import find

TENSOR, TABLE = "breast-cancer", "late-flights"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    with worker_at(make_bundle(tmp_path_factory.mktemp("bundle"))) as worker:
        yield worker.models


@pytest.mark.parametrize("version", [None, "1"])
def test_the_model_that_is_meant(models, version):
    assert find(models, TABLE, version) is models[TABLE]


def test_an_unknown_name_or_version_is_told_what_there_is(models):
    with pytest.raises(UnknownModelError, match=rf"no model 'x'.*{TENSOR}, {TABLE}"):
        find(models, "x", None)
    with pytest.raises(UnknownModelError, match=rf"{TABLE}: no version '2' of it.*version 1"):
        find(models, TABLE, "2")


def test_its_limits_are_those_of_its_room(models):
    model = models[TENSOR]
    assert (model.name, model.version, model.release) == (TENSOR, "1", "r:1")
    assert model.deadline_s == 2.0
    assert model.max_rows == 10_000
    assert model.batcher._max_batch == 1024
    assert model.batcher._max_queue == 32_768
    assert model.batcher._target_s == 0.05
    assert model.signature.inputs[0].name == "x"


def test_what_calls_cost_is_known_before_the_first_request(models):
    cost = models[TENSOR].batcher.cost
    assert cost.known
    assert 0 < cost.predict(1) <= cost.predict(64)
