"""The files of a run: where they lie, and when a directory may go on.

<run_dir>/config.yaml               what the run was asked to do, with versions
<run_dir>/rounds.jsonl              one line for each complete round (`records`)
<run_dir>/round_00/pool.pt          who is labelled while this round trains
<run_dir>/round_00/state.json       training | waiting, until the round's line is written
<run_dir>/round_00/queried.csv      what was asked for, best first
<run_dir>/round_00/queried.png      the first hundred of them, as `contact_sheet` lays them out
<run_dir>/round_00/histograms.json  how score and statistics are distributed, in the pool and among the queried
<run_dir>/round_00/statistics.pt    the table of `SampleStatistics`
<run_dir>/round_00/final.ckpt       raw and averaged weights; removed when the next round is complete
"""

from __future__ import annotations

import csv
import io
import json
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from omegaconf import OmegaConf

from assl_lightning import __version__
from assl_lightning.atomic import TEMPORARY, open_atomic, write_text
from assl_lightning.differences import differences
from assl_lightning.histograms import Histogram
from assl_lightning.records import (
    CONFIG,
    HISTOGRAMS,
    QUERIED,
    THUMBNAILS,
    RoundRecord,
    append_record,
    read_records,
    round_directory,
)

_LOCK = ".lock"

MAY_CHANGE = ("run_dir", "trainer.logger", "trainer.log_every_n_steps")
"""Keys under which a run that goes on may differ from the one that began."""

_PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "hydra-core",
    "numpy",
    "scikit-learn",
)


class RunDirectory:
    """One run's files. Every file is replaced in one piece, so whatever is there is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, config: Mapping[str, Any]) -> None:
        """Begin a run in a new or empty directory, or go on with the same run.

        Raises:
            ValueError: the directory holds something else, or a run with another configuration; the keys are named.
        """
        file = self.path / CONFIG
        if not file.exists():
            if self.path.exists() and any(not path.name.endswith(TEMPORARY) for path in self.path.iterdir()):
                raise ValueError(
                    f"run_dir {self.path} is not empty and holds no run (no config.yaml); choose another run_dir"
                )
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ValueError(
                    f"run_dir {self.path} cannot be made ({error.strerror}); choose another run_dir"
                ) from error
            content = {**config, "environment": _environment()}
            write_text(file, OmegaConf.to_yaml(OmegaConf.create(content)))
            return
        before = OmegaConf.to_container(OmegaConf.load(file))
        if not isinstance(before, dict) or not before:
            raise ValueError(f"{file} holds no configuration; restore it, or choose another run_dir")
        before.pop("environment", None)
        found = list(differences(before, OmegaConf.to_container(OmegaConf.create(dict(config))), MAY_CHANGE))
        if found:
            raise ValueError(
                f"run_dir {self.path} holds a run with another configuration ({'; '.join(found)}); "
                f"repeat its settings to go on with it, or choose another run_dir"
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """No other process on this machine runs here meanwhile; the system lets go when the process ends, however.

        Raises:
            ValueError: another process runs here.
        """
        if sys.platform == "win32":  # which has no such lock
            yield
            return
        import fcntl

        with (self.path / _LOCK).open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"run_dir {self.path} is in use by another process; wait for it, or choose another run_dir"
                ) from None
            yield

    def records(self) -> list[RoundRecord]:
        """The complete rounds."""
        return read_records(self.path)

    def commit(self, record: RoundRecord) -> None:
        """Write a round's line: from here on the round is complete."""
        append_record(self.path, record)
        self.tidy(record.round)

    def tidy(self, number: int) -> None:
        """Remove what nobody needs once round `number` is complete; again where a kill came between."""
        (self.round(number) / "state.json").unlink(missing_ok=True)
        if number > 0:
            (self.round(number - 1) / "final.ckpt").unlink(missing_ok=True)

    def round(self, number: int) -> Path:
        """The directory of a round."""
        return round_directory(self.path, number)

    def save_tensors(self, number: int, name: str, state: dict[str, Any]) -> None:
        """Write tensors and plain values, to be read by `load_tensors`."""
        self.round(number).mkdir(exist_ok=True)
        with open_atomic(self.round(number) / name) as file:
            torch.save(state, file)

    def load_tensors(self, number: int, name: str) -> dict[str, Any]:
        """Read what `save_tensors`, or a trainer's checkpoint, wrote; on the CPU, running no code from the file."""
        path = self.round(number) / name
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing, but the run cannot go on without it; restore it or begin anew")
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (EOFError, OSError, RuntimeError, UnpicklingError) as error:
            raise ValueError(
                f"{path} cannot be read ({error or 'it ends too early'}); restore it or begin anew"
            ) from error
        return state

    def has(self, number: int, name: str) -> bool:
        """Whether a round's file is there."""
        return (self.round(number) / name).exists()

    def write_state(self, number: int, state: str, record: Mapping[str, Any] | None = None) -> None:
        """`training`, or `waiting` for labels with what the round's record will say."""
        content = {"state": state} if record is None else {"state": state, "record": record}
        self.round(number).mkdir(exist_ok=True)
        write_text(self.round(number) / "state.json", json.dumps(content))

    def waiting_record(self, number: int) -> RoundRecord | None:
        """What a round that is trained and waits for its labels will say; None for any other round."""
        path = self.round(number) / "state.json"
        if not path.exists():
            return None
        try:
            content = json.loads(path.read_text())
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not JSON ({error}); remove it, and its round is trained again") from None
        return RoundRecord(**content["record"]) if content["state"] == "waiting" else None

    def write_queried(
        self, number: int, rows: Sequence[Mapping[str, object]], histograms: Mapping[str, Histogram]
    ) -> None:
        """`queried.csv`, a row a sample, best first, and `histograms.json`."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.round(number) / QUERIED, text.getvalue())
        write_text(self.round(number) / HISTOGRAMS, json.dumps(histograms))

    def write_thumbnails(self, number: int, png: bytes) -> None:
        """`queried.png`."""
        with open_atomic(self.round(number) / THUMBNAILS) as file:
            file.write(png)


def _environment() -> dict[str, str]:
    versions = {"assl-lightning": __version__} | {package: version(package) for package in _PACKAGES}
    try:
        git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        commit = ""
    else:
        commit = git.stdout.strip()
    return {"python": platform.python_version(), "platform": platform.platform(), "git_commit": commit, **versions}
