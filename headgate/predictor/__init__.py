"""The packaged model: signature, validation, reference rows, engines.

Everything that runs a model runs it through :class:`Predictor`. Needs numpy and msgspec;
an engine's library is imported when a model of it is opened.
"""

from headgate.predictor.artifact import Candidate, Manifest, Parity, read_manifest, write_artifact
from headgate.predictor.example import Example, example, shortest
from headgate.predictor.folder import complete_folder
from headgate.predictor.parity import Difference, difference
from headgate.predictor.predictor import Predictor, Replay, read_reference
from headgate.predictor.reference import Reference
from headgate.predictor.signature import Array, Batch, DType, Field, Outputs, Signature, Task
from headgate.predictor.validation import (
    arrays_to_batch,
    checked_array,
    columns_to_batch,
    rows_to_batch,
    values_to_array,
)

__all__ = [
    "Array",
    "Batch",
    "Candidate",
    "DType",
    "Difference",
    "Example",
    "Field",
    "Manifest",
    "Outputs",
    "Parity",
    "Predictor",
    "Reference",
    "Replay",
    "Signature",
    "Task",
    "arrays_to_batch",
    "checked_array",
    "columns_to_batch",
    "complete_folder",
    "difference",
    "example",
    "read_manifest",
    "read_reference",
    "rows_to_batch",
    "shortest",
    "values_to_array",
    "write_artifact",
]
