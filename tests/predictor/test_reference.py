"""References keep every value as it was, without a pickle."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from headgate.errors import ArtifactError
from headgate.predictor import Reference


def reference(rows: int = 10) -> Reference:
    carrier = np.array(["UA", None, "nan", "None", "", "Zürich"] * rows, dtype=object)[:rows]
    return Reference(
        inputs={
            "carrier": carrier,
            "a/b: ünlikely name": np.linspace(0, 1, rows),
            "wind": np.where(np.arange(rows) % 3 == 0, np.nan, 1.5).astype(np.float32),
            "image": np.arange(rows * 4, dtype=np.uint8).reshape(rows, 2, 2),
        },
        outputs={
            "label": np.array(["late", "on time"] * rows, dtype=object)[:rows],
            "probabilities": np.full((rows, 2), 0.5, dtype=np.float32),
        },
        labels=np.arange(rows) % 2,
        task="classification",
        classes=("late", "on time"),
    )


def assert_equal(one: Reference, two: Reference) -> None:
    for left, right in ((one.inputs, two.inputs), (one.outputs, two.outputs)):
        assert list(left) == list(right)
        for name, array in left.items():
            assert array.dtype == right[name].dtype
            np.testing.assert_array_equal(array, right[name])
    assert (one.task, one.classes) == (two.task, two.classes)
    assert (one.labels is None) == (two.labels is None)
    if one.labels is not None:
        np.testing.assert_array_equal(one.labels, two.labels)


@pytest.mark.parametrize("rows", [0, 1, 10])
def test_what_is_saved_is_loaded(tmp_path, rows) -> None:
    reference(rows).save(tmp_path / "new" / "folder")
    assert_equal(Reference.load(tmp_path / "new" / "folder"), reference(rows))
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 2


def test_equal_references_make_equal_files(tmp_path) -> None:
    reference().save(tmp_path / "a")
    reference().save(tmp_path / "b")
    for name in Reference.FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_sample_is_spread_and_has_no_labels() -> None:
    few = reference(10).sample(3)
    assert few.rows == 3
    assert few.labels is None
    assert few.inputs["image"][:, 0, 0].tolist() == [0, 16, 36]
    assert reference(2).sample(100).rows == 2


@pytest.mark.parametrize(
    "damage", ["missing", "cut", "no json", "format", "names", "rows", "pickle"]
)
def test_what_is_damaged_is_refused(tmp_path, damage) -> None:
    one = reference()
    one.save(tmp_path)
    json_file, npz_file = (tmp_path / name for name in Reference.FILES)
    if damage == "missing":
        npz_file.unlink()
    elif damage == "cut":
        npz_file.write_bytes(npz_file.read_bytes()[:-40])
    elif damage == "no json":
        json_file.write_bytes(b"{")
    elif damage == "format":
        json_file.write_bytes(json_file.read_bytes().replace(b'"format":1', b'"format":2'))
    elif damage == "names":
        json_file.write_bytes(json_file.read_bytes().replace(b'"wind"', b'"wind","more","yet"'))
    elif damage == "rows":
        shorter = one.take(slice(0, 4)).outputs
        dataclasses.replace(one, outputs=shorter).save(tmp_path)
    else:
        np.savez(npz_file, in1=np.array([{}], dtype=object))
    with pytest.raises(ArtifactError) as caught:
        Reference.load(tmp_path)
    assert caught.value.where == str(tmp_path)
    assert "log_reference" in caught.value.remedy
