"""From what somebody sent to a batch, or an :class:`InputError` that says what to mend.

Nothing else is ever raised. A batch that comes out of here holds no value that can
disturb another one merged with it: names, types, shapes and finiteness are checked.

Rules: a missing or extra input, a wrong type, null where it is not allowed, a number that
is not finite (in float32) or does not fit, a ragged or wrong shape, and no rows at all are errors.
Integers are fine where floats are wanted; floats where integers are wanted only if they are
integral and above -2**63; booleans are never numbers. The strings ``"nan"`` and ``"None"`` are strings. NaN,
which JSON cannot say, is null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from headgate.errors import InputError
from headgate.predictor.signature import Array, Batch, DType, Field, Signature

__all__ = [
    "arrays_to_batch",
    "checked_array",
    "columns_to_batch",
    "rows_to_batch",
    "values_to_array",
]

Place = Callable[[int], str]
"""The name, for a person, of the value at a flat index."""

_PLAIN: dict[str, frozenset[type]] = {
    "bool": frozenset({bool}),
    "string": frozenset({str}),
    "uint8": frozenset({int}),
    "int32": frozenset({int}),
    "int64": frozenset({int}),
    "float32": frozenset({int, float}),
    "float64": frozenset({int, float}),
}
"""Types that convert as they are; anything else takes the slow path, value by value."""
_WANTED = {
    "bool": "send true or false",
    "string": "send a string",
    "float32": "send a number",
    "float64": "send a number",
}
_FLOATS = {"float32", "float64"}
_SMALLEST = -(2.0**63)
_LARGEST = float(np.finfo(np.float32).max)
"""Trees and most graphs compute in float32 whatever the column's type: more would become
infinity in some engines and an error for a whole batch in others."""


def rows_to_batch(signature: Signature, rows: Sequence[Any], *, where: str = "instances") -> Batch:
    """Rows as they come in JSON.

    A table takes objects, ``{column: value}``. A model of one tensor input takes nested
    lists, or objects like one of several inputs: ``{input: nested list}``.

    Raises:
        InputError: whatever is wrong with them.
    """
    if type(rows) is not list:
        rows = _listed(rows, where)
    if not rows:
        raise InputError("no rows", where=where, remedy="send at least one")
    fields = signature.inputs
    if len(fields) == 1 and fields[0].shape and type(rows[0]) is not dict:
        field = fields[0]
        return {field.name: _tensor(field, rows, where, "")}
    names = signature.input_names
    for index, row in enumerate(rows):
        if type(row) is not dict or row.keys() != names:
            raise _wrong_row(signature, row, f"{where}[{index}]")
    batch = {}
    for field in fields:
        name = field.name
        values = [row[name] for row in rows]
        if field.shape:
            batch[name] = _tensor(field, values, where, f".{name}")
        else:
            batch[name] = _flat(field, values, _place(f"{where}[", f"].{name}"))
    return batch


def columns_to_batch(
    signature: Signature, columns: Mapping[str, Sequence[Any]], *, where: str = "inputs"
) -> Batch:
    """Lists by input name, one entry a row.

    Raises:
        InputError: whatever is wrong with them.
    """
    _check_names(signature, columns, where)
    batch = {}
    for field in signature.inputs:
        name = field.name
        values = columns[name]
        if type(values) is not list:
            values = _listed(values, f"{where}.{name}")
        if field.shape:
            batch[name] = _tensor(field, values, f"{where}.{name}", "")
        else:
            batch[name] = _flat(field, values, _place(f"{where}.{name}[", "]"))
    _check_rows(batch, where)
    return batch


def arrays_to_batch(
    signature: Signature, arrays: Mapping[str, Array], *, where: str = "inputs"
) -> Batch:
    """Arrays by input name, as binary protocols carry them; a column is ``(n,)`` or ``(n, 1)``.

    NaN in a nullable float column is null. Strings come as objects: ``str``, UTF-8 ``bytes``
    or ``None``.

    Raises:
        InputError: whatever is wrong with them.
    """
    _check_names(signature, arrays, where)
    batch = {
        field.name: _array(field, arrays[field.name], f"{where}.{field.name}")
        for field in signature.inputs
    }
    _check_rows(batch, where)
    return batch


def values_to_array(field: Field, values: list[Any], *, where: str) -> Array:
    """JSON values of one input, flat whatever its shape, as a flat array; its size is not checked.

    Raises:
        InputError: a value is not what the input takes.
    """
    return _flat(field, values, _place(f"{where}[", "]"))


def checked_array(field: Field, array: Array, *, where: str) -> Array:
    """The array of one input, as :func:`arrays_to_batch` would take it.

    It is not copied where its type is that of the input.

    Raises:
        InputError: it does not have the input's type and shape, or a value is not what it takes.
    """
    return _array(field, array, where)


def _check_names(signature: Signature, given: Any, where: str) -> None:
    if not isinstance(given, Mapping) or given.keys() != signature.input_names:
        raise _wrong_row(signature, given, where)


def _check_rows(batch: Batch, where: str) -> None:
    counts = {name: len(array) for name, array in batch.items()}
    most = max(counts.values())
    if most == 0:
        raise InputError("no rows", where=where, remedy="send at least one")
    for name, count in counts.items():
        if count != most:
            raise InputError(
                f"{count} rows where another input has {most}",
                where=f"{where}.{name}",
                remedy="send as many rows for every input",
            )


def _wrong_row(signature: Signature, row: Any, where: str) -> InputError:
    names = [field.name for field in signature.inputs]
    kind = "column" if signature.is_table else "input"
    if not isinstance(row, Mapping):
        return InputError(
            f"{_show(row)} is no object",
            where=where,
            remedy=f"send {{{kind}: value}} with: {_some(names)}",
        )
    missing = [name for name in names if name not in row]
    if missing:
        one = signature.inputs[names.index(missing[0])]
        null = "; null is allowed" if one.nullable else ""
        return InputError(
            f"{kind} {_show(missing[0])} is missing",
            where=where,
            remedy=f"send a {one.dtype}{null}",
        )
    extra = [name for name in row if name not in signature.input_names]
    if extra:
        return InputError(
            f"{kind} {_show(extra[0])} is unknown",
            where=where,
            remedy=f"leave it out; known: {_some(names)}",
        )
    return InputError("not a plain object", where=where, remedy=f"send {{{kind}: value}}")


def _listed(values: Any, where: str) -> list[Any]:
    if isinstance(values, np.ndarray):
        listed: Any = values.tolist()
        values = listed if isinstance(listed, list) else values
    if isinstance(values, Sequence) and not isinstance(values, str | bytes | bytearray):
        return list(values)
    raise InputError(
        f"{_show(values)} is no list", where=where, remedy="send a list, one entry a row"
    )


def _tensor(field: Field, rows: Sequence[Any], where: str, suffix: str) -> Array:
    """Rows of nested lists, flattened level by level so that every length is checked."""
    flat: Any = rows
    shape = field.shape
    for level, size in enumerate(shape):
        for index, item in enumerate(flat):
            if type(item) is not list or len(item) != size:
                place = _path(shape[:level], index, where, suffix)
                raise _wrong_shape(field, item, size, place)
        flat = flat[0] if len(flat) == 1 else list(chain.from_iterable(flat))
    return _flat(field, flat, lambda i: _path(shape, i, where, suffix)).reshape(-1, *shape)


def _wrong_shape(field: Field, item: Any, size: int, place: str) -> InputError:
    remedy = f"one row of {field.name} is nested lists of shape {list(field.shape)}"
    if isinstance(item, list):
        return InputError(f"{len(item)} values where {size} belong", where=place, remedy=remedy)
    return InputError(f"{_show(item)} is no list of {size}", where=place, remedy=remedy)


def _place(before: str, after: str) -> Place:
    return lambda index: f"{before}{index}{after}"


def _path(shape: tuple[int, ...], index: int, where: str, suffix: str) -> str:
    """``instances[3].image[0][5]`` for a flat ``index`` over ``(rows, *shape)``."""
    inner = []
    for size in reversed(shape):
        index, rest = divmod(index, size)
        inner.append(f"[{rest}]")
    return f"{where}[{index}]{suffix}{''.join(reversed(inner))}"


def _flat(field: Field, values: list[Any], place: Place) -> Array:
    """One value a row to one array; the common types convert without looking at each value."""
    dtype = field.dtype
    if not _PLAIN[dtype].issuperset(map(type, values)):
        values = [_value(field, value, place, index) for index, value in enumerate(values)]
    if dtype == "string":
        return _strings(values, place)
    try:
        array = np.array(values, dtype=np.float64 if dtype in _FLOATS else dtype)
    except (OverflowError, ValueError):
        raise _does_not_fit(field, values, place) from None
    if dtype in _FLOATS:
        return _finite(field, array, place)
    return array


def _finite(field: Field, array: Array, place: Place) -> Array:
    """Refuse what is not finite in float32, and NaN where null is not allowed; cast once."""
    size = np.abs(array)
    bad = size > _LARGEST if field.nullable else ~(size <= _LARGEST)
    if np.logical_or.reduce(bad, axis=None):
        index = int(np.argmax(bad))
        value = array.reshape(-1)[index]
        what = "does not fit into float32" if np.isfinite(value) else "is not a finite number"
        remedy = "send a finite number" + (" or null" if field.nullable else "")
        raise InputError(f"{value} {what}", where=place(index), remedy=remedy)
    return array.astype(field.dtype, copy=False)


def _strings(values: Sequence[Any], place: Place) -> Array:
    array = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        if value is not None and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise InputError(
                    f"{_show(value)} is no Unicode text: it has half of a surrogate pair",
                    where=place(index),
                    remedy="send valid UTF-8",
                ) from None
        array[index] = value
    return array


def _value(field: Field, value: Any, place: Place, index: int) -> Any:
    """One value of a column that is not all of the common types."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and np.isnan(value)):
        if field.nullable:
            return None if field.dtype == "string" else np.nan
        raise InputError("null is not allowed", where=place(index), remedy=_wanted(field))
    plain = _plain(field.dtype, value)
    if plain is None:
        raise InputError(
            f"{_show(value)} is no {field.dtype}", where=place(index), remedy=_wanted(field)
        )
    return plain


def _plain(dtype: DType, value: Any) -> Any:
    """``value`` as a plain value of ``dtype``; None where it is none."""
    if isinstance(value, bool) or dtype == "bool":
        return value if isinstance(value, bool) and dtype == "bool" else None
    if dtype == "string":
        return str(value) if isinstance(value, str) else None
    if isinstance(value, int):
        return int(value)
    if not isinstance(value, float):
        return None
    if dtype in _FLOATS:
        return float(value)
    # Of an integer below the smallest int64 JSON makes a float, which is equal to the smallest.
    return int(value) if value.is_integer() and value > _SMALLEST else None


def _does_not_fit(field: Field, values: list[Any], place: Place) -> InputError:
    for index, value in enumerate(values):
        try:
            np.array(value, dtype=field.numpy)
        except (OverflowError, ValueError):
            return InputError(
                f"{_show(value)} does not fit into {field.dtype}",
                where=place(index),
                remedy=_wanted(field),
            )
    raise AssertionError("every value alone fits, so all of them do")


def _array(field: Field, array: Array, where: str) -> Array:
    if not isinstance(array, np.ndarray) or array.ndim == 0:
        raise InputError(
            f"{_show(array)} is no array", where=where, remedy="send one, a row an entry"
        )
    shape = array.shape[1:]
    if shape != field.shape and not (field.shape == () and shape == (1,)):
        raise InputError(
            f"shape {list(array.shape)}",
            where=where,
            remedy=f"send {['rows', *field.shape]}".replace("'", ""),
        )

    def place(index: int) -> str:
        return _path(field.shape, index, where, "")

    kind = array.dtype.kind
    flat = array.reshape(-1)
    if field.dtype == "string":
        if kind not in "OUS":
            raise _wrong_type(field, array, where)
        texts = [_text(value, place, index) for index, value in enumerate(flat.tolist())]
        return _flat(field, texts, place).reshape(-1, *field.shape)
    if (kind == "b") != (field.dtype == "bool") or kind not in "biuf":
        raise _wrong_type(field, array, where)
    if kind == "b":
        cast = flat
    elif field.dtype in _FLOATS:
        cast = flat if flat.dtype.char in "fd" else flat.astype(np.float64)
        cast = _finite(field, cast, place)
    else:
        cast = _integers(field, flat, place)
    return cast.reshape(-1, *field.shape)


def _integers(field: Field, flat: Array, place: Place) -> Array:
    limits = np.iinfo(field.dtype)
    if flat.dtype == field.numpy:
        return flat
    if flat.dtype.kind == "f":
        # The float after the largest int64 is 2**63, so the upper bound must be exclusive.
        fits = (flat >= limits.min) & (flat > _SMALLEST) & (flat < float(limits.max) + 1)
        bad = ~(fits & (np.trunc(flat) == flat))
    else:
        bad = (flat < limits.min) | (flat > limits.max)
    if bad.any():
        index = int(np.argmax(bad))
        raise InputError(
            f"{flat[index]} is no {field.dtype}", where=place(index), remedy=_wanted(field)
        )
    return flat.astype(field.dtype)


def _text(value: Any, place: Place, index: int) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InputError(
            f"{_show(value)} is no UTF-8", where=place(index), remedy="send valid UTF-8"
        ) from None


def _wrong_type(field: Field, array: Array, where: str) -> InputError:
    return InputError(f"an array of {array.dtype}", where=where, remedy=f"send {field.dtype}")


def _wanted(field: Field) -> str:
    if field.dtype in _WANTED:
        wanted = _WANTED[field.dtype]
    else:
        limits = np.iinfo(field.dtype)
        wanted = f"send an integer from {limits.min} to {limits.max}"
    return f"{wanted} or null" if field.nullable else wanted


def _some(names: list[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _show(value: Any) -> str:
    """A short name of any value; never fails, never prints a megabyte."""
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, str | bytes) and len(value) > 60:
        return f"{value[:60]!r}…"
    text = "null" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
