"""The callback's state in a checkpoint of Lightning, whatever classes of the user's project the checkpoint names."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import torch

from assl_lightning.base.suggestions import nearest_path
from assl_lightning.base.words import with_kind

STATE_KEY = "assl_lightning.ASSLScoreCallback[{name}]"
"""Key of a callback's state among those of all callbacks."""


def read_state(path: str | Path, name: str | None = None) -> dict[str, Any]:
    """Read the state of the callback `name` from a checkpoint; None: of the only one there is.

    No code of the file runs: classes that it names, such as those of hyperparameters, are left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint, or has no such callback.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a directory; give the file in it that Lightning's ModelCheckpoint wrote")
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no checkpoint {path}{nearest_path(path)}; give the file that Lightning's ModelCheckpoint wrote"
        )
    states = _callbacks(path)
    found = {key: state for key, state in states.items() if str(key).startswith(STATE_KEY.partition("{")[0]) and state}
    if name is not None:
        found = {key: state for key, state in found.items() if key == STATE_KEY.format(name=name)}
    if len(found) != 1:
        there = ", ".join(str(key) for key in states) or "none"
        many = "several ASSLScoreCallbacks; say which with name=…" if found else "no state of an ASSLScoreCallback"
        raise ValueError(f"{path} has {many}; the callbacks in it: {there}. It must be of a fit with the callback")
    return dict(next(iter(found.values())))


def _callbacks(path: Path) -> Mapping[Any, Any]:
    try:
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:  # names of the user's project
            checkpoint = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_TensorsOnly)
    except Exception as error:  # of bytes that are no pickle, unpickling raises whatever they stand for
        raise ValueError(
            f"{path} cannot be read as a checkpoint of Lightning ({with_kind(error)}); give the file that Lightning's "
            f"ModelCheckpoint wrote"
        ) from error
    callbacks = checkpoint.get("callbacks") if isinstance(checkpoint, dict) else None
    return callbacks if isinstance(callbacks, Mapping) else {}


class _LeftOut(dict[Any, Any]):
    """Stand for an object of any class that a checkpoint names; nothing is called and nothing kept."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    def __call__(self, *_: object, **__: object) -> _LeftOut:
        return _LeftOut()

    def __setstate__(self, state: object) -> None:
        """Keep nothing."""

    def append(self, value: object) -> None:
        """Keep nothing."""

    def extend(self, values: object) -> None:
        """Keep nothing."""

    def add(self, value: object) -> None:
        """Keep nothing."""


_KNOWN = frozenset(
    (
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
        ("collections", "OrderedDict"),
        ("torch", "Size"),
    )
)


class _Unpickler(pickle.Unpickler):
    """An unpickler that makes tensors and plain values, and `_LeftOut` of all else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN:
            return super().find_class(module, name)
        return _LeftOut


def _load(file: IO[bytes], **options: Any) -> Any:
    """Unpickle as `pickle.load` does, by `_Unpickler`; torch calls it for files of its oldest form."""
    return _Unpickler(file, **options).load()


_TensorsOnly = SimpleNamespace(Unpickler=_Unpickler, load=_load, __name__="tensors_only")
