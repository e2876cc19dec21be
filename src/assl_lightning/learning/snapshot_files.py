"""Files of `PoolSnapshots`: one for each moment of a training, readable with NumPy alone.

<directory>/snapshots/raw/step_00005000.npz     predictions of the raw weights
<directory>/snapshots/ema/step_00005000.npz     predictions of the averaged weights, if asked for
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from assl_lightning.base.atomic import open_atomic

DIRECTORY = "snapshots"
"""Name of the directory, below that of a run's round or of a Trainer, with one directory for each kind of weights."""


@dataclass(frozen=True)
class Snapshot:
    """Predictions for n samples of the pool, and their running statistics, at one moment of a training.

    Predictions are made in evaluation mode on images that are not augmented; the statistics are those that training
    keeps from its weak and strong views (Lim et al. 2023, Eq. 3 and 5), 0 where `visits` is 0.
    """

    step: NDArray[np.int64]  # () optimizer steps so far
    index: NDArray[np.int64]  # (n,) pool indices, ascending
    prediction: NDArray[np.int16]  # (n,) argmax p
    max_probability: NDArray[np.float32]  # (n,) max p
    uncertainty: NDArray[np.float32]  # (n,) pseudo-EL2N of p (Eq. 1)
    uncertainty_mean: NDArray[np.float32]  # (n,)
    uncertainty_variance: NDArray[np.float32]  # (n,)
    inconsistency_mean: NDArray[np.float32]  # (n,)
    inconsistency_variance: NDArray[np.float32]  # (n,)
    visits: NDArray[np.int32]  # (n,) number of times that training has observed the sample
    c_u: NDArray[np.float64]  # () confidence value of the uncertainty's upper bound (Eq. 3)
    c_i: NDArray[np.float64]  # () confidence value of the inconsistency's upper bound (Eq. 5)


def snapshot_path(directory: Path, step: int) -> Path:
    """Return the path of the snapshot of an optimizer step in the directory of one kind of weights."""
    return directory / f"step_{step:08d}.npz"


def snapshot_steps(directory: Path) -> dict[int, Path]:
    """Return optimizer step → file, ascending, of the snapshots in a directory."""
    found = ((re.fullmatch(r"step_(\d+)\.npz", path.name), path) for path in directory.glob("step_*.npz"))
    return dict(sorted((int(name[1]), path) for name, path in found if name))


def write_snapshot(directory: Path, snapshot: Snapshot) -> None:
    """Write the file of a snapshot in one piece."""
    with open_atomic(snapshot_path(directory, int(snapshot.step))) as file:
        np.savez_compressed(file, **vars(snapshot))


def read_snapshot(path: Path) -> Snapshot:
    """Read a file of `write_snapshot`; no code in the file is run."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            snapshot = Snapshot(**{field.name: content[field.name] for field in fields(Snapshot)})
            _check_columns(snapshot)
            return snapshot
    except (AttributeError, EOFError, KeyError, RuntimeError, TypeError, ValueError, *_TORN) as error:
        raise ValueError(f"{path} is not the file of a snapshot ({error}); remove it, or run it again") from error


_TORN = (BadZipFile, zlib.error, OSError)


def _check_columns(snapshot: Snapshot) -> None:
    """Raise unless each column has one number for each sample, and the step is one number."""
    for name, values in vars(snapshot).items():
        shape = () if name in ("step", "c_u", "c_i") else snapshot.index.shape
        if values.shape != shape or values.ndim > 1 or values.dtype.kind not in "iuf":
            raise ValueError(f"{name} must be numbers of shape {shape}, not {values.dtype} of shape {values.shape}")


def read_snapshots(directory: Path) -> list[Snapshot]:
    """Read the snapshots of one kind of weights, in the order of their steps.

    Raises:
        ValueError: there are none, one cannot be read, or they are of different samples.
    """
    files = list(snapshot_steps(directory).values())
    if not files:
        raise ValueError(f"{directory} holds no snapshot (no step_*.npz); train with the callback PoolSnapshots")
    snapshots = [read_snapshot(path) for path in files]
    _check_same_samples(files, snapshots)
    return snapshots


def _check_same_samples(files: Sequence[Path], snapshots: Sequence[Snapshot]) -> None:
    for path, snapshot in zip(files, snapshots, strict=True):
        if not np.array_equal(snapshot.index, snapshots[0].index):
            raise ValueError(
                f"{path} is a snapshot of other samples than {files[0].name} beside it; keep the snapshots of one fit "
                f"in a directory"
            )
