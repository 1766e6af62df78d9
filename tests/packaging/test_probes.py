"""Rows made up from the reference ask about what held-out rows rarely hold."""

from __future__ import annotations

import numpy as np

from headgate.packaging.probes import make_probes
from headgate.predictor import Field, Reference, Signature
from tests.packaging.makers import objects, tabular

OUTPUT = (Field(name="prediction", dtype="float64"),)


def ask(rows: int, *fields: Field) -> dict[str, np.ndarray] | None:
    arrays = {
        field.name: objects([f"{field.name}{i}" for i in range(rows)])
        if field.dtype == "string"
        else np.arange(rows).astype(field.numpy)
        for field in fields
    }
    signature = Signature(inputs=fields, outputs=OUTPUT, task="regression")
    return make_probes(signature, tabular(arrays, {"prediction": np.zeros(rows)}))


def test_every_value_is_tried_on_several_rows() -> None:
    text = Field(name="s", dtype="string", nullable=True)
    number = Field(name="x", dtype="float64", nullable=True)
    count = Field(name="n", dtype="int64")
    probes = ask(10, text, number, count)
    assert probes is not None
    assert set(probes["s"].tolist()) >= {"nan", "None", "", None}
    for value in ("nan", "None", "", None):
        rows = [row for row, each in enumerate(probes["s"].tolist()) if each == value]
        assert len(rows) == 4
        assert sorted(probes["n"][rows].tolist()) == [0, 3, 6, 9]
        assert not np.isnan(probes["x"][rows]).any()
    assert int(np.isnan(probes["x"]).sum()) == 4
    assert len(probes["n"]) == 7 * 4


def test_null_is_asked_only_where_it_is_allowed() -> None:
    probes = ask(2, Field(name="s", dtype="string"), Field(name="x", dtype="float32"))
    assert probes is not None
    assert None not in probes["s"].tolist()
    assert not np.isnan(probes["x"]).any()
    assert len(probes["x"]) == 5 * 2


def test_where_there_is_nothing_to_ask() -> None:
    assert ask(9, Field(name="x", dtype="float32"), Field(name="n", dtype="int64")) is None
    assert ask(0, Field(name="s", dtype="string")) is None


def test_the_reference_is_left_as_it_is() -> None:
    signature = Signature(
        inputs=(Field(name="s", dtype="string", shape=(2,)),), outputs=OUTPUT, task="regression"
    )
    inputs = {"s": objects(["a", "b", "c", "d"]).reshape(2, 2)}
    reference = Reference(inputs=inputs, outputs={"prediction": np.zeros(2)}, task="regression")
    probes = make_probes(signature, reference)
    assert probes is not None
    assert probes["s"][0].tolist() == ["nan", "nan"]
    assert inputs["s"].tolist() == [["a", "b"], ["c", "d"]]
