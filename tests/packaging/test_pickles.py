"""What a pickle would import and call is known without running it."""

from __future__ import annotations

import collections
import pickle
import warnings
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from sklearn.utils import all_estimators

from headgate.packaging.allowed import allowed
from headgate.packaging.pickles import MalformedPickleError, globals_of
from tests.packaging.streams import PROTO, STOP, call, named, state, text, value, whole


def refuses(data: bytes, says: str) -> None:
    with pytest.raises(MalformedPickleError, match=says):
        globals_of(data)


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_is_followed(protocol: int) -> None:
    given = [collections.OrderedDict(a=1), {"x": np.arange(3)}, ("a", None, 2.5, b"x"), {1, 2}]
    given.append(given[0])
    found = globals_of(pickle.dumps(given, protocol))
    assert ("collections", "OrderedDict") in found
    assert any(name == "_reconstruct" for _, name in found) or protocol == 5
    assert all(allowed(*each) or each[0] == "_codecs" for each in found)
    if protocol >= 3:
        assert all(allowed(*each) for each in found)


def test_names_put_together_on_the_stack_are_seen() -> None:
    assert globals_of(whole(named("os", "system", on_stack=True))) == {("os", "system")}
    # The name is memoised, dropped, fetched and duplicated before it is used.
    fetched = text("os") + b"q\x05" + text("system") + b"q\x06" + b"00" + b"h\x05" + b"h\x06\x93"
    assert globals_of(PROTO + fetched + STOP) == {("os", "system")}
    assert globals_of(PROTO + text("os") + b"2\x93" + STOP) == {("os", "os")}
    assert globals_of(PROTO + text("os") + b"\x94" + text("popen") + b"\x93" + STOP) == {
        ("os", "popen")
    }
    # Behind a mark and what it gathers.
    assert globals_of(PROTO + b"(" + text("x") + b"1" + named("os", "system") + STOP) == {
        ("os", "system")
    }


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no pickle"),
        (b"garbage", "no pickle"),
        (pickle.dumps([1, 2])[:-1], "no pickle"),
        (pickle.dumps(1) + b"x", "something follows its end"),
        (pickle.dumps(1) + pickle.dumps(2), "something follows its end"),
        (PROTO + b"0" + STOP, "does not add up"),
        (PROTO + b"h\x07" + STOP, "does not add up"),
        (PROTO + b"]K\x01e" + STOP, "does not add up"),
        (PROTO + b"]K\x01t" + STOP, "does not add up"),
        (PROTO + b"R" + STOP, "does not add up"),
        (PROTO + text("os") + call(named("builtins", "str"), text("x")) + b"\x93.", "computed"),
        (PROTO + b"\x82\x01" + STOP, "EXT1 names a class by number"),
        (PROTO + b"(ios\nsystem\n" + STOP, "INST makes an instance"),
        (PROTO + b"(" + named("os", "system") + text("true") + b"o" + STOP, "OBJ makes"),
        (PROTO + b"Pid\n" + STOP, "a persistent id"),
        (PROTO + text("id") + b"Q" + STOP, "a persistent id"),
        (b"\x80\x05\x97" + STOP, "wants a buffer"),
    ],
)
def test_what_cannot_be_followed_is_refused(data: bytes, says: str) -> None:
    refuses(data, says)


def test_persistent_ids_belong_into_torch_archives() -> None:
    data = PROTO + text("id") + b"Q" + STOP
    assert globals_of(data, persistent=True) == set()


COUNTER = named("collections", "Counter")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (call(call(COUNTER), text("x")), "REDUCE calls what was not looked up"),
        (value([]) + b")\x81", "NEWOBJ calls what was not looked up"),
        (value([]) + b")}\x92", "NEWOBJ_EX calls what was not looked up"),
        (state(COUNTER, {"update": value(1)}), "BUILD alters what was looked up"),
        (COUNTER + value(1) + b"a", "APPEND alters what was looked up"),
        (COUNTER + b"(" + value(1) + b"e", "APPENDS alters what was looked up"),
        (COUNTER + text("a") + value(1) + b"s", "SETITEM alters what was looked up"),
        (COUNTER + b"(" + text("a") + value(1) + b"u", "SETITEMS alters what was looked up"),
        (COUNTER + b"(" + value(1) + b"\x90", "ADDITEMS alters what was looked up"),
    ],
)
def test_only_what_was_looked_up_is_called_and_it_stays_as_it_is(data: bytes, says: str) -> None:
    refuses(whole(data), says)


def test_objects_of_harmless_parts_can_do_harm_once_called(tmp_path: Path) -> None:
    """Every name is allowed; together they would write bytes of choice to a path of choice."""
    marker = tmp_path / "marker"
    mixin = named("sklearn.preprocessing._data", "OneToOneFeatureMixin")
    altered = mixin + b"N}" + text("estimator_type") + text("x") + b"s\x86b"
    scorer = call(
        named("sklearn.metrics._scorer", "_Scorer"),
        named("sklearn.utils._bunch", "Bunch"),
        value(1),
        value({"pos_label": 1}),
        text("tofile"),
    )
    bare = named("sklearn.frozen._frozen", "FrozenEstimator"), named("builtins", "object")
    frozen = state(
        call(named("copyreg", "_reconstructor"), *bare, value(None)),
        {"estimator": value(np.frombuffer(b"owned", dtype=np.uint8)), "__sklearn_tags__": mixin},
    )
    called = call(scorer, frozen, text(str(marker)), value(None))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TypeError):
            pickle.loads(whole(altered, called))  # noqa: S301
    assert marker.read_bytes() == b"owned"
    refuses(whole(altered, called), "BUILD alters")
    refuses(whole(called), "REDUCE calls")


SLOW = {
    "BayesianGaussianMixture",
    "DictionaryLearning",
    "GaussianProcessClassifier",
    "LassoLarsIC",
    "MLPClassifier",
    "MLPRegressor",
    "MiniBatchDictionaryLearning",
    "MiniBatchSparsePCA",
    "SparsePCA",
}


def test_models_of_every_estimator_are_allowed() -> None:
    """Whatever scikit-learn fits on a small table is read, pickled by either pickler."""
    rng = np.random.default_rng(0)
    x = np.abs(rng.normal(size=(30, 4)))
    y = np.arange(30) % 3
    fitted = 0
    for name, kind in all_estimators():
        if name in SLOW:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = kind().fit(x, y)
        except (AttributeError, TypeError, ValueError):
            continue  # it wants another estimator, or other data
        fitted += 1
        for data in (pickle.dumps(model), cloudpickle.dumps(model)):
            refused = sorted(each for each in globals_of(data) if not allowed(*each))
            assert refused == [], name
    assert fitted > 120


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("builtins", "__import__"),
        ("builtins", "dict.__class__"),
        ("os", "system"),
        ("posix", "system"),
        ("subprocess", "Popen"),
        ("importlib", "import_module"),
        ("operator", "attrgetter"),
        ("functools", "partial"),
        ("functools", "reduce"),
        ("numpy", "load"),
        ("numpy", "fromfile"),
        ("numpy", "memmap"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy.f2py.crackfortran", "getlincoef"),
        ("pandas", "read_pickle"),
        ("joblib", "load"),
        ("sklearn.datasets", "load_files"),
        ("sklearn.utils", "check_array"),
        ("sklearn.feature_selection._univariate_selection", "warnings"),
        ("sklearn.feature_selection._univariate_selection", "np"),
        ("sklearn.feature_selection._mutual_info", "clone"),
        ("sklearn.externals.joblib", "Memory"),
        ("torch", "load"),
        ("torch", "hub"),
        ("torch.hub", "load"),
        ("torch.nn.modules.module", "torch"),
        ("torch.jit", "load"),
        ("cloudpickle.cloudpickle", "_make_function"),
        ("net", "Net"),
    ],
)
def test_names_that_reach_further_are_not_allowed(module: str, name: str) -> None:
    assert not allowed(module, name)


def test_the_rooms_classes_are_allowed_under_their_full_name() -> None:
    assert allowed("net", "Net", {"net.Net"})
    assert not allowed("net", "Net.forward", {"net.Net"})
    assert not allowed("other", "Net", {"net.Net"})
