"""Run directories, written as a run writes them, without one."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from PIL import Image, PngImagePlugin

from assl_lightning.loop.evaluation import Evaluation, write_evaluation
from assl_lightning.loop.records import RoundRecord, write_record
from assl_lightning.report.analysis.grouping import group
from assl_lightning.report.analysis.runs import Setting, find_runs

CLASSES = 4
STATISTICS = ("uncertainty_mean", "uncertainty_variance", "inconsistency_mean", "inconsistency_variance")
ENVIRONMENT = {"python": "3.11.7", "git_commit": "", "torch": "2.15.0"}


class Runs:
    """A directory to write runs below."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(
        self,
        method: str,
        seed: int,
        accuracies: Sequence[float],
        *,
        where: str | None = None,
        steps: int = 100,
        balanced: float | None = None,
        queried_labels: Sequence[int] = (),
        seconds: Mapping[str, float] | None = None,
        changes: Mapping[str, Any] | None = None,
    ) -> Path:
        """One run of an acquisition; its raw accuracy is 0.01 below. `changes` are dotted keys of its configuration."""
        run = self.root / (where or method) / f"seed_{seed}"
        run.mkdir(parents=True)
        config = make_config(method, seed, len(accuracies) - 1, changes or {})
        OmegaConf.save(OmegaConf.create({**config, "environment": ENVIRONMENT}), run / "config.yaml")
        for number, accuracy in enumerate(accuracies):
            record = RoundRecord(
                round=number,
                labels=config["initial_labels"] + number * config["labels_per_round"],
                unlabelled=1000,
                steps=steps,
                test_accuracy_ema=accuracy,
                test_accuracy_raw=round(accuracy - 0.01, 6),
                test_balanced_accuracy_ema=balanced,
                queried=[*range(len(queried_labels))],
                queried_labels=[*queried_labels],
                seconds=dict(seconds or {}),
            )
            write_record(run, record)
        return run

    def method(self, name: str, table: Sequence[Sequence[float]], **changes: Any) -> None:
        """A run for each row of accuracies, with the seeds 0, 1, …"""
        for seed, accuracies in enumerate(table):
            self.add(name, seed, accuracies, **changes)

    def settings(self) -> list[Setting]:
        """What was added, each task on its own."""
        return group(find_runs([self.root]), by_setting=True)

    def setting(self) -> Setting:
        """What was added, as one task."""
        (setting,) = group(find_runs([self.root]))
        return setting

    @staticmethod
    def write_sheet(
        path: Path,
        colours: Sequence[tuple[int, int, int]],
        *,
        columns: int = 10,
        size: tuple[int, int] = (4, 6),
        text: Mapping[str, str] | None = None,
    ) -> None:
        """A contact sheet with a tile of one colour for each; `text` replaces its text fields."""
        path.parent.mkdir(exist_ok=True)
        width, height = size
        sheet = Image.new("RGB", (columns * width, -(-len(colours) // columns) * height))
        for rank, colour in enumerate(colours):
            sheet.paste(Image.new("RGB", size, colour), (rank % columns * width, rank // columns * height))
        info = PngImagePlugin.PngInfo()
        fields = {"tile_width": width, "tile_height": height, "columns": columns, "count": len(colours), **(text or {})}
        for name, value in fields.items():
            info.add_text(name, str(value))
        sheet.save(path, pnginfo=info)

    @staticmethod
    def write_queried(path: Path, sample_ids: Sequence[str]) -> None:
        """queried.csv with falling scores."""
        path.parent.mkdir(exist_ok=True)
        with path.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["rank", "index", "sample_id", "score", *STATISTICS, "visits", "prediction"])
            for rank, name in enumerate(sample_ids):
                writer.writerow([rank, rank, name, 2.5 - rank, 0.6, 0.01, 2.4, 0.36, 75, ""])

    @staticmethod
    def write_evaluation(round_directory: Path, evaluation: Evaluation | None = None) -> None:
        """evaluation.npz, and errors.png with a tile for each picture; by default an error of class 1 among four."""
        round_directory.mkdir(exist_ok=True)
        if evaluation is None:
            columns = [np.array([0, 1, 2, 3], np.int32) for _ in range(3)]
            columns[2][1] = 2
            confidence = np.array([0.9, 0.7, 0.8, 0.6], np.float32)
            evaluation = Evaluation(columns[0], columns[1], columns[2], confidence, ("photos/b.png",))
        write_evaluation(round_directory / "evaluation.npz", evaluation)
        if evaluation.pictured:
            colours = [(10 * rank, 200, 0) for rank, _ in enumerate(evaluation.pictured)]
            Runs.write_sheet(round_directory / "errors.png", colours)

    @staticmethod
    def write_histograms(path: Path, content: object | None = None) -> None:
        """histograms.json of one statistic."""
        path.parent.mkdir(exist_ok=True)
        known = {"uncertainty_mean": {"edges": [0.0, 0.5, 1.0], "pool": [90.0, 10.0], "queried": [1.0, 9.0]}}
        path.write_text(json.dumps(known if content is None else content))

    @staticmethod
    def write_metrics(path: Path, tests: Mapping[int, tuple[float, float]]) -> None:
        """metrics.csv as the CSV logger writes it: step (from 0) → (EMA, raw), between rows without a test."""
        path.parent.mkdir(exist_ok=True)
        rows = [f"0,0.5,{step},,\n0,,{step},{ema},{raw}\n" for step, (ema, raw) in tests.items()]
        path.write_text("epoch,loss,step,test_accuracy_ema,test_accuracy_raw\n" + "".join(rows))


def make_config(method: str, seed: int, rounds: int, changes: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's config.yaml holds; `changes` are dotted keys."""
    config = OmegaConf.create(
        {
            "name": "digits",
            "seed": seed,
            "run_dir": f"runs/{method}/seed_{seed}",
            "rounds": rounds,
            "initial_labels": 10,
            "labels_per_round": 10,
            "steps_per_round": 100,
            "init": "rand",
            "data": {"name": "digits", "num_classes": CLASSES, "root": None},
            "network": {"_target_": "assl_lightning.networks.SmallCNN", "width": 16},
            "algorithm": {"name": "fixmatch", "mu": 7},
            "acquisition": {"name": method},
            "trainer": {"devices": 1},
        }
    )
    for key, value in changes.items():
        OmegaConf.update(config, key, value)
    made = OmegaConf.to_container(config)
    assert isinstance(made, dict)
    return {str(key): value for key, value in made.items()}


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs")


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, each as it is when it is saved."""
    saved: list[Figure] = []
    save = Figure.savefig

    def remember(self: Figure, *args: object, **kwargs: object) -> None:
        saved.append(self)
        save(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", remember)
    return saved
