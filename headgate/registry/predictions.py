"""The model's own predictions, as it stands in the training script."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np

from headgate.predictor import Array, Outputs, Task
from headgate.registry.recording import as_array, is_torch, refused

__all__ = ["Own", "own_predictions"]


class Own(NamedTuple):
    """What the model does, and what it said."""

    task: Task
    classes: tuple[str | int, ...]
    """What the columns of its probabilities stand for; classifiers only."""
    outputs: Outputs


def own_predictions(model: Any, some: Any, labels: Array | None, task: Task | None) -> Own:
    """Predict ``some`` rows, given as the model takes them.

    Raises:
        InputError: the model cannot, or not in a way that can be written down.
    """
    if is_torch(model, "Module"):
        own = _of_torch(model, some, labels, task)
    elif not hasattr(model, "predict"):
        raise refused(
            f"{type(model).__name__} has no predict",
            "give a fitted scikit-learn estimator or a torch module",
        )
    elif task == "classification" or (task is None and hasattr(model, "classes_")):
        own = _of_classifier(model, some)
    elif task == "tensor":
        raise refused(f'{type(model).__name__} and task="tensor"', "that is for torch modules")
    else:
        predicted = as_array(model.predict(some), "the prediction")
        if predicted.dtype.kind == "O":
            raise refused(
                f"{type(model).__name__} predicts strings but has no classes_",
                "give a classifier, or one that predicts numbers",
            )
        with np.errstate(over="ignore"):  # beyond float32 it is infinite, and looked at below
            own = Own("regression", (), {"prediction": predicted.astype(np.float32)})
    for name, array in own.outputs.items():
        if array.shape[:1] != (len(some),):
            raise refused(
                f"{name} has shape {list(array.shape)} for {len(some)} rows",
                "the model must give one prediction a row",
            )
    _require_finite(model, own.outputs)
    return own


def _require_finite(model: Any, outputs: Outputs) -> None:
    """Raise where no number is finite: whatever is packaged would agree with that, or nothing."""
    numbers = [array for array in outputs.values() if array.dtype.kind == "f" and array.size]
    if numbers and not any(np.isfinite(array).any() for array in numbers):
        count = sum(array.size for array in numbers)
        raise refused(
            f"all {count} numbers that {type(model).__name__} predicts are NaN or infinite",
            "see that it is fitted, and that its rows are scaled as in training",
        )


def _of_classifier(model: Any, some: Any) -> Own:
    classes = _classes(model)
    outputs = {"label": as_array(model.predict(some), "the predicted label")}
    if hasattr(model, "predict_proba"):
        likely = np.asarray(model.predict_proba(some), dtype=np.float32)
        if likely.shape != (len(some), len(classes)):
            raise refused(
                f"predict_proba gives shape {list(likely.shape)} for {len(some)} rows and "
                f"{len(classes)} classes",
                "give a classifier with one label a row",
            )
        outputs["probabilities"] = likely
    return Own("classification", classes, outputs)


def _classes(model: Any) -> tuple[str | int, ...]:
    name = type(model).__name__
    if not hasattr(model, "classes_"):
        raise refused(f"{name} has no classes_", "give a fitted classifier")
    found: list[str | int] = []
    for each in model.classes_:
        if isinstance(each, str):
            found.append(str(each))
        elif (
            np.ndim(each) == 0
            and isinstance(each, np.number | np.bool_ | int)
            and each == int(each)
        ):
            found.append(int(each))
        else:
            raise refused(
                f"{name} has a class {each!r}", "train it on labels that are strings or integers"
            )
    return tuple(found)


def _of_torch(model: Any, some: Any, labels: Array | None, task: Task | None) -> Own:
    if hasattr(some, "columns"):
        raise refused(
            "a torch module takes no DataFrame", "give the tensor or array that it does take"
        )
    answer = _run(model, some)
    if isinstance(answer, dict):
        outputs = {str(name): as_array(each, str(name)) for name, each in answer.items()}
    elif isinstance(answer, tuple | list):
        outputs = {f"output_{at}": as_array(each, f"output {at}") for at, each in enumerate(answer)}
    else:
        outputs = {"output": as_array(answer, "the output")}
    (first, *others) = outputs.values()
    classifies = not others and first.ndim == 2 and first.shape[1] > 1
    if task is None and classifies and labels is not None and labels.dtype.kind in "iu":
        task = "classification"
    if task == "classification":
        if not classifies:
            shapes = ", ".join(str(list(array.shape)) for array in outputs.values())
            raise refused(
                f"the module's outputs have shape {shapes}",
                "a classifier gives one logit a class, (rows, classes)",
            )
        likely = _probabilities(first)
        label = first.argmax(axis=1).astype(np.int64)
        own = {"label": label, "probabilities": likely}
        return Own("classification", tuple(range(first.shape[1])), own)
    if task == "regression":
        if others:
            raise refused(
                f"the module has {len(outputs)} outputs", 'log it with task="tensor" instead'
            )
        flat = first.reshape(len(first)) if first.size == len(first) else first
        return Own("regression", (), {"prediction": flat})
    return Own("tensor", (), outputs)


def _run(model: Any, some: Any) -> Any:
    """The module's answer in evaluation mode; its own modes are put back afterwards."""
    import torch

    held = next(itertools.chain(model.parameters(), model.buffers()), None)
    tensor = torch.as_tensor(some) if held is None else torch.as_tensor(some).to(held.device)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            return model(tensor)
    finally:
        for module, training in modes:
            module.training = training


def _probabilities(answer: Array) -> Array:
    """Softmax over the classes, unless the module has done that itself."""
    wide = answer.astype(np.float64)
    if wide.min() >= 0 and np.allclose(wide.sum(axis=1), 1.0, atol=1e-4):
        return answer.astype(np.float32)
    with np.errstate(invalid="ignore"):  # infinite logits make NaN
        powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
