"""What a pickle of a model may name: classes and functions that hold or compute numbers.

A pickle is a program that imports by name and calls what it imported with arguments of its
own choosing, so each name here must be harmless whatever it is called with. Reviewed so:
no name opens, imports, runs, evaluates or unpickles anything, and none reaches attributes
by name. Dotted names (``pickle`` protocol 4 walks them) are never allowed.
"""

from __future__ import annotations

import re
from collections.abc import Collection

__all__ = ["allowed"]

_BUILTINS = (
    "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple"
)
_NUMPY_SCALARS = (
    "bool bool_ complex64 complex128 datetime64 float16 float32 float64 int8 int16 int32 int64 "
    "object_ str_ timedelta64 uint8 uint16 uint32 uint64"
)
_NUMPY_MATH = (
    "abs absolute ceil clip cos exp expm1 floor log log10 log1p log2 max maximum mean median min "
    "minimum nan_to_num negative rint sign sin sqrt square sum tan tanh"
)
_TORCH_FUNCTIONS = (
    "celu elu gelu hardsigmoid hardswish hardtanh leaky_relu log_softmax logsigmoid mish relu relu6 "
    "selu sigmoid silu softmax softplus softsign tanh"
)
_TORCH_VALUES = (
    "Size device dtype Tensor UntypedStorage bfloat16 bool complex128 complex64 float16 float32 "
    "float64 int16 int32 int64 int8 uint8"
)

_EXACT: dict[str, frozenset[str]] = {
    "builtins": frozenset(_BUILTINS.split()),
    "__builtin__": frozenset(_BUILTINS.split()),
    "copyreg": frozenset({"_reconstructor"}),
    "copy_reg": frozenset({"_reconstructor"}),
    "collections": frozenset({"Counter", "OrderedDict", "defaultdict", "deque"}),
    "numpy": frozenset(f"dtype ndarray {_NUMPY_SCALARS} {_NUMPY_MATH}".split()),
    "numpy.random._mt19937": frozenset({"MT19937"}),
    "numpy.random._pcg64": frozenset({"PCG64"}),
    "numpy.random._pickle": frozenset(
        {"__bit_generator_ctor", "__generator_ctor", "__randomstate_ctor"}
    ),
    "numpy.random.bit_generator": frozenset({"SeedSequence", "__pyx_unpickle_SeedSequence"}),
    "scipy._lib.array_api_compat.numpy._aliases": frozenset({"asarray"}),
    "scipy.interpolate._bsplines": frozenset({"BSpline"}),
    "sklearn.cluster._kmeans": frozenset({"_kmeans_single_lloyd", "_kmeans_single_elkan"}),
    "sklearn.feature_selection._mutual_info": frozenset(
        {"mutual_info_classif", "mutual_info_regression"}
    ),
    "sklearn.feature_selection._univariate_selection": frozenset(
        {"chi2", "f_classif", "f_oneway", "f_regression", "r_regression"}
    ),
    "sklearn.metrics._dist_metrics": frozenset({"newObj"}),
    "sklearn.neighbors._ball_tree": frozenset({"newObj"}),
    "sklearn.neighbors._kd_tree": frozenset({"newObj"}),
    "torch": frozenset(_TORCH_VALUES.split()),
    "torch._C._nn": frozenset(_TORCH_FUNCTIONS.split()),
    "torch._utils": frozenset(
        {
            "_rebuild_parameter",
            "_rebuild_parameter_with_state",
            "_rebuild_tensor",
            "_rebuild_tensor_v2",
        }
    ),
    "torch.nn.functional": frozenset(_TORCH_FUNCTIONS.split()),
    "torch.nn.parameter": frozenset({"Buffer", "Parameter"}),
}

_SKLEARN = (
    "_loss calibration cluster compose covariance cross_decomposition decomposition "
    "discriminant_analysis dummy ensemble feature_extraction feature_selection frozen "
    "gaussian_process impute isotonic kernel_approximation kernel_ridge linear_model manifold "
    "mixture model_selection multiclass multioutput naive_bayes neighbors neural_network pipeline "
    "preprocessing random_projection semi_supervised svm tree"
)
_PATTERNS = [
    (re.compile(module), re.compile(name))
    for module, name in (
        (r"numpy\.(_core|core)\.multiarray", r"_reconstruct|scalar"),
        (r"numpy\.(_core|core)\.numeric", r"_frombuffer"),
        (r"scipy\.sparse\._(bsr|coo|csc|csr|dia|dok|lil)", r"[a-z]{3}_(array|matrix)"),
        # Estimators and their parts: classes, by scikit-learn's own way of naming.
        (rf"sklearn\.({_SKLEARN.replace(' ', '|')})(\.\w+)*", r"_?[A-Z]\w*"),
        (r"sklearn\._loss\._loss", r"__pyx_unpickle_Cy\w+"),
        (r"sklearn\.metrics\._(dist_metrics|scorer)", r"_?[A-Z]\w*"),
        (r"sklearn\.metrics\._(classification|ranking|regression)", r"[a-z]\w*_(error|loss|score)"),
        (r"sklearn\.utils\._bunch", r"Bunch"),
        (r"torch", r"(BFloat16|Bool|Byte|Char|Double|Float|Half|Int|Long|Short)Storage"),
        (r"torch\.nn\.modules\.\w+", r"_?[A-Z]\w*"),
    )
]


def allowed(module: str, name: str, room: Collection[str] = ()) -> bool:
    """Whether a pickle may name ``module.name``; ``room`` holds ``module.name`` of reviewed code."""
    if "." in name:
        return False
    if f"{module}.{name}" in room or name in _EXACT.get(module, ()):
        return True
    return any(one.fullmatch(module) and two.fullmatch(name) for one, two in _PATTERNS)
