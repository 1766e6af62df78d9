"""Types that a skops file may name beside those that skops itself trusts.

A model's own file says which types it would like to be trusted (``skops_trusted_types`` in
MLflow's ``MLmodel``); that is the attacker's list in an attack (GHSA-w582-9x45-8mpx) and is
never read. This one was reviewed, type by type: each only holds or computes numbers, none
imports, opens or runs anything. skops distrusts the trees because their node indices are
followed unchecked; :func:`check_trees` checks them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["TRUSTED", "check_trees", "parts_of"]

_LOSSES = (
    "AbsoluteError",
    "ExponentialLoss",
    "HalfBinomialLoss",
    "HalfGammaLoss",
    "HalfMultinomialLoss",
    "HalfPoissonLoss",
    "HalfSquaredError",
    "HalfTweedieLoss",
    "HalfTweedieLossIdentity",
    "HuberLoss",
    "PinballLoss",
)
_KERNELS = (
    "CompoundKernel",
    "ConstantKernel",
    "DotProduct",
    "ExpSineSquared",
    "Exponentiation",
    "Matern",
    "PairwiseKernel",
    "Product",
    "RBF",
    "RationalQuadratic",
    "Sum",
    "WhiteKernel",
)
_SCORES = ("chi2", "f_classif", "f_oneway", "f_regression", "r_regression")
_DISTANCES = ("Chebyshev", "Euclidean", "Manhattan", "Minkowski")

TRUSTED: frozenset[str] = frozenset(
    [
        "functools.partial",  # of check_array only: see check_trees
        "numpy.dtype",
        "scipy.interpolate._bsplines.BSpline",
        "scipy.sparse._csc.csc_array",
        "scipy.sparse._csc.csc_matrix",
        "scipy.sparse._csr.csr_array",
        "scipy.sparse._csr.csr_matrix",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.calibration._TemperatureScaling",
        "sklearn.cluster._bisect_k_means._BisectingTree",
        "sklearn.compose._column_transformer._RemainderColsList",
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils.validation.check_array",
        *(f"sklearn._loss.loss.{name}" for name in _LOSSES),
        *(f"sklearn.gaussian_process.kernels.{name}" for name in _KERNELS),
        *(f"sklearn.feature_selection._univariate_selection.{name}" for name in _SCORES),
        *(
            f"sklearn.metrics._dist_metrics.{name}Distance{bits}"
            for name in _DISTANCES
            for bits in (32, 64)
        ),
    ]
)


def check_trees(model: Any) -> int:
    """Hold that every tree in ``model`` points only at nodes and features it has.

    And that a partial is one that scikit-learn makes itself, as HistGradientBoosting with
    categorical features does. Returns how many trees there are.

    Raises:
        ValueError: one does not; predicting with it would read memory that is not its own, or
            call what nobody reviewed.
    """
    from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
    from sklearn.tree._tree import Tree
    from sklearn.utils.validation import check_array

    trees: set[int] = set()
    checked: set[int] = set()
    for part in parts_of(model):
        if isinstance(part, functools.partial) and part.func is not check_array:
            raise ValueError(f"a partial of {part.func!r}")
        if isinstance(part, Tree | TreePredictor):
            trees.add(id(part))
        owned = [getattr(part, "tree_", None), *_flat(getattr(part, "_predictors", ()))]
        for tree in owned:
            if isinstance(tree, Tree):
                _check_tree(tree, part.n_features_in_)
                checked.add(id(tree))
            elif isinstance(tree, TreePredictor):
                _check_boosted(tree, part.n_features_in_)
                checked.add(id(tree))
    if trees != checked:
        raise ValueError("a tree that belongs to no estimator")
    return len(trees)


def _flat(rows: Any) -> list[Any]:
    return [each for row in rows for each in row]


def _check_tree(tree: Any, features: int) -> None:
    inner = np.flatnonzero(tree.children_left != -1)
    _check_children(inner, tree.children_left[inner], tree.node_count)
    _check_children(inner, tree.children_right[inner], tree.node_count)
    _check_below(tree.feature[inner], features)


def _check_boosted(tree: Any, features: int) -> None:
    inner = np.flatnonzero(tree.nodes["is_leaf"] == 0)
    nodes = tree.nodes[inner]
    _check_children(inner, nodes["left"], len(tree.nodes))
    _check_children(inner, nodes["right"], len(tree.nodes))
    _check_below(nodes["feature_idx"], features)
    sets = nodes["bitset_idx"][nodes["is_categorical"] == 1]
    _check_below(sets, len(tree.raw_left_cat_bitsets))


def _check_children(nodes: Any, children: Any, count: int) -> None:
    """A child comes after its parent, as every builder puts it: no leaving, no going round."""
    if len(nodes) and ((children <= nodes).any() or children.max() >= count):
        raise ValueError(f"a tree of {count} nodes points outside itself or back")


def _check_below(indices: Any, count: int) -> None:
    if len(indices) and (indices.min() < 0 or indices.max() >= count):
        raise ValueError(f"a tree points at a feature or category set beyond its {count}")


def parts_of(root: Any) -> Iterator[Any]:
    """Everything an estimator is made of, each object once."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if id(part) in seen or isinstance(part, str | bytes | int | float | type(None)):
            continue
        seen.add(id(part))
        yield part
        if isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list | tuple | set):
            waiting.extend(part)
        elif isinstance(part, np.ndarray):
            waiting.extend(part.ravel().tolist() if part.dtype == object else ())
        elif hasattr(part, "__dict__"):
            waiting.extend(vars(part).values())
