"""Read plain data and NumPy arrays from pickles of unknown origin, without running anything that a file names.

A pickle is a program that may import and call anything by its name. Here the few names that plain data and arrays
need are names of functions of this module, which check their arguments; any other name is refused. NumPy's
`__setstate__` cannot be called either, since it takes a dtype of any layout and bytes for pointers: arrays and dtypes
are represented by other objects until the whole file is read.
"""

from __future__ import annotations

import copyreg
import math
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt

from assl_lightning.base.words import shortened, with_kind


def load_plain_pickle(path: str | Path) -> Any:
    """Read a pickle of protocol 0 to 5 that holds plain data: None, numbers, text, bytes, containers and NumPy's types.

    Containers are lists, tuples, sets and dictionaries (an ordered one becomes a plain one) that do not contain
    themselves. Of NumPy there are arrays, which come read-only, scalars and dtypes; of booleans, numbers, and text or
    bytes of fixed length. Strings of Python 2 are read as Latin-1.

    A file cannot run code. A few bytes can still ask for more memory, time or depth of recursion than there is (tuples
    within tuples for a dictionary's key), before anything here sees them: read a file that you do not trust in a
    process of its own.

    Raises:
        OSError: the file cannot be opened.
        ValueError: the pickle holds or names something else, or is damaged.
    """
    path = Path(path)
    with path.open("rb") as file:
        copyreg.clear_extension_cache()  # its content would be used without asking `find_class`
        try:
            return _finish(_PlainUnpickler(file, encoding="latin1").load(), {})
        except _NotPlainError as refusal:
            raise ValueError(f"{path} must hold plain data and NumPy arrays alone, but {refusal}") from refusal
        except Exception as problem:  # bytes that are no pickle may raise any
            reason = shortened(with_kind(problem), 200)
            raise ValueError(f"{path} is damaged, or not a pickle ({reason}); fetch it again") from problem
        finally:
            copyreg.clear_extension_cache()  # nor may other readers get ours


class _NotPlainError(Exception):
    """The reason why a pickle is refused, to follow "but"."""


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler that knows `_CONSTRUCTORS` and nothing else."""

    def find_class(self, module: str, name: str) -> _Constructor:
        known = _CONSTRUCTORS.get((module, name))
        if known is None:
            raise _NotPlainError(f"it asks for {_quote(f'{module}.{name}')}, which was not run; use another file")
        return known


def _quote(text: object) -> str:
    """Quote a text of the file in one short line; of anything else, which may be endless, return the type."""
    if not isinstance(text, str):
        return f"of type {type(text).__name__}"
    return ascii(shortened(text, 100))


# --- stand-ins for the objects of a file while it is read: they have no attributes to set, and cannot be hashed -------


class _StandIn:
    __slots__ = ()
    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __setstate__(self, state: object) -> None:
        raise _NotPlainError("it sets the state of something that has none; use another file")


class _Constructor(_StandIn):
    """The function that stands for a name that a file calls."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., object]) -> None:
        self._make = make

    def __call__(self, *arguments: object) -> object:
        return self._make(*arguments)


class _DType(_StandIn):
    """A dtype of booleans (b), numbers (i, u, f, c), or bytes and text of fixed length (S, U)."""

    __slots__ = ("value",)

    def __init__(self, name: object, *_: object) -> None:
        if not (isinstance(name, str) and re.fullmatch(r"b1|[iufc][1-9]\d?|[SU]\d{1,9}", name)):
            raise _NotPlainError(f"it has a dtype {_quote(name)}, which is not one of plain numbers or text")
        self.value: np.dtype[Any] = np.dtype(name)

    def __setstate__(self, state: object) -> None:
        """Take the byte order from (3, byte order, no subarray, no names, no fields, size, alignment, flags)."""
        match state:
            case (3, "<" | ">" as byte_order, None, None, None, _, _, _):
                self.value = self.value.newbyteorder(byte_order)
            case (3, "|" | "=", None, None, None, _, _, _):
                pass
            case _:
                raise _NotPlainError("it has a dtype with fields, units or other parts, which is not plain")


class _Array(_StandIn):
    """An array; `value` is None until the file has given its content."""

    __slots__ = ("value",)

    def __init__(self, value: npt.NDArray[Any] | None = None) -> None:
        self.value = value

    def __setstate__(self, state: object) -> None:
        """Take the content from (1, shape, dtype, whether it is in Fortran's order, bytes)."""
        match state:
            case (1, tuple() as shape, _DType() as dtype, bool() | int() as fortran, bytes() | str() as content):
                self.value = _view(content, dtype, shape, "F" if fortran else "C")
            case _:
                raise _NotPlainError("it has an array whose content is not given as one run of bytes")


def _view(content: bytes | bytearray | str, dtype: _DType, shape: tuple[Any, ...], order: str) -> npt.NDArray[Any]:
    """Return `content` as an array that shares its memory and is read-only; bytes of Python 2 come as text."""
    buffer = memoryview(content.encode("latin1") if isinstance(content, str) else content).toreadonly()
    if not all(type(length) is int and length >= 0 for length in shape):
        raise _NotPlainError("it has an array whose shape is not one of lengths")
    needed = math.prod(shape) * dtype.value.itemsize
    if len(buffer) != needed:
        raise _NotPlainError(f"it has an array of shape {shape} and dtype {dtype.value} in {len(buffer)} bytes")
    return np.ndarray(shape, dtype.value, buffer=buffer, order="F" if order == "F" else "C")


# --- the functions behind the names: arguments are the file's, and anything but what the writers write is refused -----


def _make_empty_array(subtype: object, *_: object) -> _Array:
    if subtype is not _NDARRAY:
        raise _NotPlainError("it has an array of a class other than numpy.ndarray")
    return _Array()


def _make_array(content: object, dtype: object, shape: object, order: object, axes: object = None) -> _Array:
    """Make an array as protocol 5 writes it; with order "K", `axes` are those of the stored array."""
    match content, dtype, shape, order, axes:
        case (bytes() | bytearray(), _DType(), tuple(), "C" | "F", None):
            return _Array(_view(content, dtype, shape, order))
        case (bytes() | bytearray(), _DType(), tuple(), "K", tuple()):
            return _Array(_view(content, dtype, shape, "C").transpose(axes))
    raise _NotPlainError("it has an array whose content is not given as one run of bytes")


def _make_scalar(dtype: object, content: object = None) -> object:
    if not isinstance(dtype, _DType) or not isinstance(content, (bytes, str)):
        raise _NotPlainError("it has a NumPy scalar that is not plain")
    return _view(content, dtype, (), "C")[()]


def _encode(text: object, encoding: object = None) -> bytes:
    """Return bytes that Python 3 has written for Python 2."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _NotPlainError(f"it encodes text as {_quote(encoding)}; only bytes in Latin-1 are written so")
    return text.encode("latin1")


def _make_bytes() -> bytes:
    """Return empty bytes, which Python 3 does not write by `_encode`."""
    return b""


def _make_bytearray(content: object = b"", encoding: object = None) -> bytearray:
    if isinstance(content, str):
        return bytearray(_encode(content, "latin1" if encoding == "latin-1" else encoding))
    if not isinstance(content, bytes) or encoding is not None:
        raise _NotPlainError("it has a bytearray that is not given as bytes")
    return bytearray(content)


def _make_complex(real: object, imaginary: object) -> complex:
    if not isinstance(real, float) or not isinstance(imaginary, float):
        raise _NotPlainError("it has a complex number that is not given as two numbers")
    return complex(real, imaginary)


def _from_list(container: type) -> Callable[..., object]:
    def make(items: object = ()) -> object:
        if not isinstance(items, (list, tuple)):
            raise _NotPlainError(f"it has a {container.__name__} that is not given as a list")
        return container(items)

    return make


def _refuse_call(*_: object) -> NoReturn:
    raise _NotPlainError("it makes an array directly, which no writer does; use another file")


_NDARRAY = _Constructor(_refuse_call)

_CONSTRUCTORS: Mapping[tuple[str, str], _Constructor] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Constructor(_DType),
    **{
        (f"numpy.{core}.{module}", name): _Constructor(make)
        for core in ("core", "_core")  # before and since NumPy 2
        for module, name, make in (
            ("multiarray", "_reconstruct", _make_empty_array),
            ("multiarray", "scalar", _make_scalar),
            ("numeric", "_frombuffer", _make_array),
        )
    },
    **{
        (builtins, name): _Constructor(make)
        for builtins in ("__builtin__", "builtins")  # of Python 2 and 3
        for name, make in (
            ("bytes", _make_bytes),
            ("bytearray", _make_bytearray),
            ("complex", _make_complex),
            ("set", _from_list(set)),
            ("frozenset", _from_list(frozenset)),
        )
    },
    ("collections", "OrderedDict"): _Constructor(_from_list(dict)),
    ("_codecs", "encode"): _Constructor(_encode),
}
"""Module and name in a file → the function that is called instead."""


# --- once all is read -------------------------------------------------------------------------------------------------

_ATOMS = (type(None), bool, int, float, complex, str, bytes, bytearray, set, frozenset)
"""Types that are kept as they are; a set cannot hold a stand-in, which cannot be hashed."""

_UNFINISHED = object()


def _finish(value: object, finished: dict[int, tuple[object, object]]) -> object:
    """Replace stand-ins in `value` by arrays and dtypes; lists and dictionaries are changed in place.

    `finished` maps the identity of each container that was met to the container, which is held so that its identity
    stays unique, and to its result: a container that a file has in many places is gone through once.
    """
    if type(value) in _ATOMS or isinstance(value, np.generic):
        return value
    if isinstance(value, (_Array, _DType)) and value.value is not None:
        return value.value
    if id(value) in finished:
        result = finished[id(value)][1]
        if result is _UNFINISHED:
            raise _NotPlainError(f"it has a {type(value).__name__} that contains itself")
        return result
    finished[id(value)] = (value, _UNFINISHED)
    result = value
    if isinstance(value, list):
        value[:] = [_finish(item, finished) for item in value]
    elif isinstance(value, dict):
        value.update((key, _finish(item, finished)) for key, item in list(value.items()))
    elif isinstance(value, tuple):
        result = tuple(_finish(item, finished) for item in value)
    else:
        raise _NotPlainError("it has a function or an empty array for a value, which is not plain data")
    finished[id(value)] = (value, result)
    return result
