"""Names of samples, such as paths, beside their pool indices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from assl_lightning.base.words import first_few


def names_by_index(names: Sequence[str] | Mapping[int, str], num_samples: int, path: str | Path) -> Mapping[int, str]:
    """Return names, a list or a mapping, by pool index.

    Raises:
        TypeError: they are one text.
        ValueError: a list has another length than `num_samples`, that of the table in the checkpoint `path`.
    """
    if isinstance(names, Mapping):
        return names
    if isinstance(names, str):
        raise TypeError(f"names must be a list with a name for each sample; got the text {names!r}")
    if len(names) != num_samples:
        raise ValueError(f"names must be as many as the samples of {path}, {num_samples}; got {len(names)}")
    return dict(enumerate(names))


def names_of(index: Iterable[int], names: Mapping[int, str]) -> list[str]:
    """Return the name of each sample.

    Raises:
        ValueError: a sample has no name.
    """
    index = list(index)
    without = [sample for sample in index if sample not in names]
    if without:
        raise ValueError(
            f"{len(without)} of the {len(index)} picks have no name, such as sample {without[0]}; give names with "
            f"IndexedDataset(pool, names=…), or from_checkpoint(…, names=…)"
        )
    return [names[sample] for sample in index]


def indices_of(what: str, samples: Any, names: Mapping[int, str]) -> Any:
    """Return the pool indices of samples that are given by name, in a list, set, dictionary or array; else as they are.

    Raises:
        ValueError: a name is unknown, or that of several samples.
    """
    is_array = hasattr(samples, "__array__") and not isinstance(samples, Tensor)
    if not names or not (is_array or isinstance(samples, (list, tuple, set, frozenset, dict)) or _is_view(samples)):
        return samples
    given = np.asarray(samples).ravel().tolist() if is_array else list(samples)
    if not given or not all(isinstance(sample, (str, PathLike)) for sample in given):
        return samples if is_array else given
    given = [str(sample) for sample in given]
    known: dict[str, int] = {}
    repeated = set()
    for index, name in names.items():
        if known.setdefault(name, index) != index:
            repeated.add(name)
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"these {what}s are no names of samples: {first_few(unknown, 3)}")
    if several := [name for name in given if name in repeated]:
        raise ValueError(f"these {what}s are the names of several samples: {first_few(several, 3)}; give pool indices")
    return [known[name] for name in given]


def _is_view(samples: object) -> bool:
    return isinstance(samples, (type({}.keys()), type({}.values())))
