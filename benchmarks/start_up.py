"""How long one waits for the command: fresh processes of `python -m assl_lightning`, from their start to their end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from assl_lightning.base.shell import quote
from benchmarks.figures import Figure, Target
from benchmarks.measuring import CHECKOUT, synchronise

_SECTION = "start_up"
_AT_MOST = Target("≤", 2.0)

_HELP = "help"
_WRONG_VALUE = "error: a value out of range"
_WRONG_KEY = "error: a mistyped key"
_IMPORTS = "the imports of a run alone"
_FIRST_STEP = "start to the end of the first training step"
_WHOLE_RUN = "whole run"

_SIZES = {
    _HELP: "--help",
    _WRONG_VALUE: "rounds=-1",
    _WRONG_KEY: "roundz=1",
    _IMPORTS: "import torch, lightning.pytorch",
    _FIRST_STEP: "rounds=0 steps_per_round=1",
    _WHOLE_RUN: "rounds=0 steps_per_round=1",
}

_NOTE = (
    "Wall seconds of fresh processes, `python -m assl_lightning` with what is written as the size, in turns; an "
    "earlier turn, not counted, has read the files. The smallest run trains one step on digits and tests once."
)
_LEFT_OUT = "Not measured: --quick starts only what ends before anything large is imported."


class FirstStep(Callback):
    """Writes into the file `path` the time at which the first training step of a fit ended, in seconds since 1970."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = Path(path)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Wait for the device, and write, unless it is written already."""
        if not self._path.exists():
            synchronise(pl_module.device)
            self._path.write_text(str(time.time()), encoding="utf-8")


def measure(device: torch.device, quick: bool) -> Iterator[Figure]:
    """Help, two mistakes and the smallest run, beside the imports that no run can do without."""
    turns = [_short_turn()] if quick else [_turn(device) for _ in range(6)][1:]
    for what, size in _SIZES.items():
        values = tuple(turn[what] for turn in turns if what in turn)
        target = _AT_MOST if what in (_HELP, _WRONG_VALUE, _WRONG_KEY) else None
        yield Figure(_SECTION, what, size, "s", values, target, _NOTE if values else _LEFT_OUT)


def process_seconds(*arguments: str, exit_code: int = 0) -> float:
    """Wall seconds of `python arguments`, which must end with `exit_code`."""
    started = time.perf_counter()
    finished = subprocess.run([sys.executable, *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - started
    if finished.returncode != exit_code:
        raise RuntimeError(
            f"python {' '.join(arguments)} must end with exit code {exit_code}; it ended with {finished.returncode} "
            f"and said: {finished.stderr.strip()}"
        )
    return taken


def smallest_run(device: torch.device) -> dict[str, float]:
    """Seconds from the start of a run of one training step to the end of that step, and to the end of the process."""
    with TemporaryDirectory() as directory:
        path = Path(directory, "first_step")
        callback = f"{{_target_: {__name__}.{FirstStep.__name__}, path: {quote(str(path))}}}"
        started = time.time()
        whole = process_seconds(
            "-m",
            "assl_lightning",
            *_SIZES[_WHOLE_RUN].split(),
            f"run_dir={quote(str(Path(directory, 'run')))}",
            f"trainer.accelerator={'gpu' if device.type == 'cuda' else 'cpu'}",
            f"+trainer.callbacks=[{callback}]",
        )
        return {_FIRST_STEP: float(path.read_text(encoding="utf-8")) - started, _WHOLE_RUN: whole}


def _turn(device: torch.device) -> dict[str, float]:
    """Seconds of every process, by what it shows."""
    imports = process_seconds("-c", _SIZES[_IMPORTS])
    return {**_short_turn(), _IMPORTS: imports, **smallest_run(device)}


def _short_turn() -> dict[str, float]:
    """Seconds of those that end before anything large is imported."""
    command = ("-m", "assl_lightning")
    return {
        _HELP: process_seconds(*command, _SIZES[_HELP]),
        _WRONG_VALUE: process_seconds(*command, _SIZES[_WRONG_VALUE], exit_code=1),
        _WRONG_KEY: process_seconds(*command, _SIZES[_WRONG_KEY], exit_code=1),
    }
