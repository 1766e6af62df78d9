"""torch: the ONNX export and the weights beside their source both answer as the module does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from headgate.errors import ArtifactError, UnsafeModelError
from headgate.packaging.exchange import Job
from headgate.packaging.signature import signature_of
from headgate.packaging.torch_model import TorchModel
from headgate.predictor import Reference
from tests.packaging.nets import (
    SOURCE,
    classified,
    export,
    make_net,
    make_rows,
    save_whole,
    try_torch,
    write_source,
)

pytestmark = pytest.mark.usefixtures("unmeasured")


def test_a_whole_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, module = make_net(), make_rows(), write_source(tmp_path / "room")
    file = save_whole(tmp_path / "model.pth", net, monkeypatch)
    tried = try_torch(tmp_path / "work", file, classified(net, x), module)
    for engine in ("onnx", "torch"):
        parity = tried.judged[engine].candidate.parity
        assert tried.reason(engine) == "the same answers"
        assert parity is not None
        assert (parity.rows, parity.mismatched) == (90, 0)
        assert parity.largest < 1e-6
        other = make_rows(7) * 3
        expected = classified(net, other).outputs
        got = tried.predictor(engine).predict({"x": other})
        assert got["label"].tolist() == expected["label"].tolist()
        np.testing.assert_allclose(got["probabilities"], expected["probabilities"], atol=1e-6)
    native = tried.judged["torch"].path
    assert {file.name for file in native.iterdir()} == {
        "model.safetensors",
        "module.py",
        "predictor.json",
    }
    assert (native / "module.py").read_text() == SOURCE


def test_a_class_of_the_training_script_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x, module = make_net("__main__"), make_rows(), write_source(tmp_path / "room")
    file = save_whole(tmp_path / "model.pth", net, monkeypatch)
    tried = try_torch(tmp_path / "work", file, classified(net, x), module, ("torch",))
    assert tried.reason("torch") == "the same answers"


def test_an_exported_program_needs_no_source(tmp_path: Path) -> None:
    net, x = make_net(), make_rows()
    file = export(tmp_path / "model.pt2", net, torch.from_numpy(x[:4]))
    tried = try_torch(tmp_path / "a", file, classified(net, x))
    assert tried.reason("onnx") == "the same answers"
    assert "packaging.module in its model.toml names no module" in tried.reason("torch")
    module = write_source(tmp_path / "room")
    tried = try_torch(tmp_path / "b", file, classified(net, x), module, ("torch",))
    assert tried.reason("torch") == "the same answers"


def test_a_source_that_is_not_the_models_is_refused(tmp_path: Path) -> None:
    net, x = make_net(), make_rows()
    file = export(tmp_path / "model.pt2", net, torch.from_numpy(x[:4]))
    other = SOURCE.replace("self.mean", "self.average").replace('"mean"', '"average"')
    module = write_source(tmp_path / "room", other)
    tried = try_torch(tmp_path / "work", file, classified(net, x), module, ("torch",))
    assert tried.chosen == ""
    assert "not built: RuntimeError: Error(s) in loading state_dict" in tried.reason("torch")
    # Fitting weights in another computation are found by their answers.
    module = write_source(tmp_path / "room", SOURCE.replace("x - self.mean", "x + self.mean"))
    tried = try_torch(tmp_path / "again", file, classified(net, x), module)
    assert tried.chosen == "onnx"
    assert "of 90 rows" in tried.reason("torch")


def test_a_module_that_answers_with_probabilities(tmp_path: Path) -> None:
    source = SOURCE.replace("return self.layers(", "return 0.1 + 0 * self.layers(")
    source = source.replace(
        "(x - self.mean)", "(x - self.mean) + torch.softmax(x[:, :3], -1) * 0.7"
    )
    net, x = make_net(source=source), make_rows()
    file = export(tmp_path / "model.pt2", net, torch.from_numpy(x[:4]))
    module = write_source(tmp_path / "room", source)
    tried = try_torch(tmp_path / "work", file, classified(net, x, softmax=False), module)
    assert tried.result.built[1].options == {"probabilities": "identity"}
    assert tried.reason("onnx") == "the same answers"
    assert tried.reason("torch") == "the same answers"


def test_how_it_is_called_is_seen_whatever_the_tolerance(tmp_path: Path) -> None:
    """So that a tolerance too tight is not taken for another model."""
    source = SOURCE.replace("return self.layers(", "return 0.3 + 0 * self.layers(")
    net, x = make_net(source=source), make_rows()
    file = export(tmp_path / "model.pt2", net, torch.from_numpy(x[:4]))
    reference = classified(net, x, softmax=False)
    reference.outputs["probabilities"] += np.float32(2e-7)
    job = Job(
        flavor="torch",
        format="pt2",
        file=str(file),
        signature=signature_of((), reference),
        tolerance=1e-12,
        wanted=("onnx",),
    )
    assert TorchModel(job, reference)._options.probabilities == "identity"


TWO = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, x, scale):
        one = self.layer(x)
        return ANSWER
"""


@pytest.mark.parametrize(
    ("answer", "task", "names"),
    [
        ('{"sum": one.sum(-1), "wide": one * scale}', "tensor", ("sum", "wide")),
        ("(one.sum(-1), one * scale)", "tensor", ("sum", "wide")),
        ("one.sum(-1) * scale[:, 0]", "regression", ("prediction",)),
    ],
)
def test_several_inputs_and_any_answer(tmp_path: Path, answer: str, task, names) -> None:
    source = TWO.replace("ANSWER", answer)
    net, x = make_net(source=source), make_rows()
    scale = np.abs(make_rows())[:, :2]
    tensors = torch.from_numpy(x), torch.from_numpy(scale)
    with torch.no_grad():
        given = net(*tensors)
    each = given.values() if isinstance(given, dict) else given
    arrays = [given] if task == "regression" else list(each)
    outputs = {name: array.numpy() for name, array in zip(names, arrays, strict=True)}
    reference = Reference(inputs={"x": x, "scale": scale}, outputs=outputs, task=task)
    file = export(tmp_path / "model.pt2", net, *(each[:4] for each in tensors))
    module = write_source(tmp_path / "room", source)
    tried = try_torch(tmp_path / "work", file, reference, module)
    assert tried.reason("onnx") == "the same answers"
    assert tried.reason("torch") == "the same answers"


def test_what_torch_cannot_export_runs_natively(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = SOURCE.replace(
        "return self.layers(x - self.mean)",
        "return self.layers(x - self.mean) if float(x.sum()) > -1e9 else x[:, :3]",
    )
    net, x, module = make_net(source=source), make_rows(), write_source(tmp_path / "room", source)
    file = save_whole(tmp_path / "model.pth", net, monkeypatch)
    tried = try_torch(tmp_path / "work", file, classified(net, x), module)
    assert "not built: " in tried.reason("onnx")
    assert tried.chosen == "torch"


def test_a_class_that_the_room_does_not_define_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = make_net()
    file = save_whole(tmp_path / "model.pth", net, monkeypatch)
    reference = classified(net, make_rows())
    with pytest.raises(UnsafeModelError, match=r"would import net\.Net"):
        try_torch(tmp_path / "work", file, reference)


def test_a_module_file_without_a_module(tmp_path: Path) -> None:
    net, x = make_net(), make_rows()
    file = export(tmp_path / "model.pt2", net, torch.from_numpy(x[:4]))
    module = write_source(tmp_path / "room", "import torch\n")
    tried = try_torch(tmp_path / "work", file, classified(net, x), module, ("torch",))
    assert tried.chosen == ""
    assert f"not built: {ArtifactError.__name__}" in tried.reason("torch")
    assert "define `def build()" in tried.reason("torch")
