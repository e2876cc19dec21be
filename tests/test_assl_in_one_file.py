"""Test that the method on one page and `run_rounds` label the same images, from the same seed and the same draws."""

from __future__ import annotations

import ast
import importlib.util
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from assl_lightning import ASSL, FixMatch, HeldBackLabels, Pool, PoolDataModule, RoundSettings, run_rounds
from assl_lightning.base.seeding import Draws, derive_key, make_generator
from assl_lightning.loop import CheckpointSettings
from assl_lightning.networks import FeatureNetwork

EXAMPLE = Path(__file__).parents[1] / "examples" / "assl_in_one_file.py"
SEED, ROUNDS, INITIAL, BUDGET, STEPS = 3, 2, 12, 8, 25
POOL, TEST = slice(0, 400), slice(400, 600)


@pytest.fixture(scope="module")
def one_file() -> ModuleType:
    spec = importlib.util.spec_from_file_location(EXAMPLE.stem, EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draws_of_the_package(one_file: ModuleType) -> object:
    """The example's source of random numbers, with those of `run_rounds`."""

    class SameDraws(one_file.Draws):  # type: ignore[misc, name-defined]
        def generator(self, purpose: str, *counters: int) -> torch.Generator:
            return make_generator(self.seed, purpose, *counters)

        def integers(self, rows: int, columns: int, high: int, purpose: str, *counters: int) -> Tensor:
            draws = Draws(derive_key(self.seed, purpose, *counters), torch.arange(rows))
            return draws.integers(range(columns), high)

    return SameDraws(SEED)


def run_the_package(one_file: ModuleType, run_dir: Path) -> tuple[list[list[int]], list[float]]:
    """The picks and accuracies of `run_rounds`, with the network and the views of the example."""

    class Network(FeatureNetwork):
        def __init__(self) -> None:
            made = one_file.Network()
            super().__init__(made.head, made.head.in_features, 10)
            self.trunk = made.trunk

        def features(self, images: Tensor) -> Tensor:
            found: Tensor = self.trunk(images)
            return found

    images, labels = one_file.load_images()
    pool = Pool(len(images[POOL]), num_classes=10)
    datamodule = PoolDataModule(
        pool,
        pool_images=images[POOL],
        test_images=images[TEST],
        test_labels=labels[TEST],
        normalise=one_file.normalise,
        weak=lambda found, draws: one_file.weak_view(found, draws.integers(range(2), 5)),
        strong=lambda found, draws: one_file.strong_view(found, draws.integers(range(5), 5)),
        batch_size=one_file.BATCH_SIZE,
        mu=one_file.MU,
    )
    optimizer = partial(torch.optim.SGD, lr=one_file.LEARNING_RATE, momentum=one_file.MOMENTUM, nesterov=True)
    records = run_rounds(
        pool=pool,
        datamodule=datamodule,
        make_network=Network,
        make_algorithm=lambda network: FixMatch(
            network, optimizer=optimizer, threshold=one_file.THRESHOLD, weight_decay=one_file.WEIGHT_DECAY
        ),
        make_trainer=partial(Trainer, accelerator="cpu"),
        acquisition=ASSL(c_u=one_file.C_U, c_i=one_file.C_I),
        oracle=HeldBackLabels(labels[POOL]),
        settings=RoundSettings(
            seed=SEED,
            rounds=ROUNDS,
            initial_labels=INITIAL,
            labels_per_round=BUDGET,
            steps_per_round=STEPS,
            weight_ema=None,
            checkpoint=CheckpointSettings(every_n_seconds=None),
        ),
        run_dir=run_dir,
    )
    return [record.queried for record in records[:-1]], [record.test_accuracy_raw for record in records]


@pytest.mark.e2e
def test_one_page_and_the_package_label_the_same_images(
    one_file: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_file, "THRESHOLD", 0.6)  # so that some pseudo-labels count after a few steps
    images, labels = one_file.load_images()
    queried, accuracies = one_file.run(
        (images[POOL], labels[POOL]),
        (images[TEST], labels[TEST]),
        draws_of_the_package(one_file),
        rounds=ROUNDS,
        initial=INITIAL,
        budget=BUDGET,
        steps=STEPS,
    )

    of_package, accuracies_of_package = run_the_package(one_file, tmp_path / "run")

    assert queried == of_package
    assert len({index for picks in queried for index in picks}) == ROUNDS * BUDGET
    assert accuracies == pytest.approx(accuracies_of_package, abs=0.011)  # two of the 200 test images


def test_the_page_is_short_and_imports_torch_and_scikit_learn_alone() -> None:
    source = EXAMPLE.read_text()
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(source))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }

    assert len(source.splitlines()) < 200
    assert imported - set(sys.stdlib_module_names) == {"torch", "sklearn"}
