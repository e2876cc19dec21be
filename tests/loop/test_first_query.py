"""The samples that are labelled first, where a strategy chooses them."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from assl_lightning.acquisition.random import RandomSampling
from assl_lightning.data.pixel_components import pixel_components
from assl_lightning.data.pool import Pool
from assl_lightning.learning.inference import evaluate
from assl_lightning.loop import RoundSettings
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.first_query import FIRST_STRATEGIES, query_first
from assl_lightning.loop.settings import InitialAcquisition
from assl_lightning.networks.small import SmallCNN
from tests import small_runs
from tests.stripes import CLASSES, IMAGES, LABELS, POOL_SIZE, make_datamodule

SETTINGS = RoundSettings(rounds=0, initial_labels=5, hold_out=8, steps_per_round=2, weight_ema=None)
WITHOUT_TEST = {"test_images": IMAGES[:0], "test_labels": LABELS[:0]}

run = functools.partial(small_runs.run, acquisition=RandomSampling(), data=WITHOUT_TEST)

every_strategy = pytest.mark.parametrize("name", FIRST_STRATEGIES)


def test_every_initial_acquisition_but_random_has_a_strategy() -> None:
    assert {"random", *FIRST_STRATEGIES} == {*get_args(InitialAcquisition)}


@every_strategy
def test_a_strategy_for_the_first_labels_needs_features_alone(name: str) -> None:
    assert FIRST_STRATEGIES[name]().requires <= {"features", "labelled"}


@every_strategy
def test_the_first_labels_are_distinct_candidates_which_the_seed_decides(name: str) -> None:
    index = torch.arange(3, 90, 3)
    features = torch.randn(29, 6, generator=torch.Generator().manual_seed(0))
    picks = query_first(FIRST_STRATEGIES[name](), index, features, 7, 4)
    assert picks.shape == (7,)
    assert len(set(picks.tolist())) == 7
    assert set(picks.tolist()) <= set(index.tolist())
    assert torch.equal(query_first(FIRST_STRATEGIES[name](), index, features, 7, 4), picks)


@every_strategy
def test_of_groups_that_lie_apart_each_has_one(name: str) -> None:
    group = torch.arange(40) % 4
    noise = 0.01 * torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    picks = query_first(FIRST_STRATEGIES[name](), torch.arange(40), torch.eye(4)[group] + noise, 4, 0)
    assert sorted(group[picks].tolist()) == [0, 1, 2, 3]


def asked_first(run_dir: Path, features: str, name: str) -> tuple[Tensor, Tensor]:
    """The samples to hold out and the others, of a pool with some that are labelled or excluded."""
    pool = Pool(POOL_SIZE, CLASSES)
    pool.label(torch.tensor([0, 1]), LABELS[:2], 0)
    pool.exclude(torch.tensor([2, 3]))
    changes: dict[str, Any] = {"initial_acquisition": name, "initial_features": features}
    settings = replace(SETTINGS, **changes)
    run(run_dir, settings=settings, pool=pool)
    asked = RunDirectory(run_dir).read_initial()
    assert asked is not None
    return asked


@pytest.mark.e2e
@pytest.mark.parametrize("features", ["pixels", "auto"])
@every_strategy
def test_pixels_need_no_network_and_neither_see_what_is_held_out_nor_what_is_excluded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, features: str
) -> None:
    looked_at: list[list[int]] = []

    def watch(images: Tensor, index: Tensor) -> Tensor:
        looked_at.append(index.tolist())
        return pixel_components(images, index)

    monkeypatch.setattr("assl_lightning.loop.first_query.pixel_components", watch)
    held_out, others = asked_first(tmp_path / "run", features, name)
    (seen,) = looked_at
    assert seen == sorted({*range(4, POOL_SIZE)} - {*held_out.tolist()})
    index = torch.tensor(seen)
    components = pixel_components(IMAGES[:POOL_SIZE], index)
    assert torch.equal(others, query_first(FIRST_STRATEGIES[name](), index, components, 5, 0))


@pytest.mark.e2e
def test_of_many_samples_some_are_drawn_which_stand_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[list[int]] = []

    def watch(images: Tensor, index: Tensor) -> Tensor:
        looked_at.append(index.tolist())
        return pixel_components(images, index)

    monkeypatch.setattr("assl_lightning.loop.first_query.pixel_components", watch)
    monkeypatch.setattr("assl_lightning.loop.first_query._MOST_LOOKED_AT", 12)
    held_out, others = asked_first(tmp_path / "run", "pixels", "herding")
    (seen,) = looked_at
    assert len(seen) == 12
    assert seen == sorted(seen)
    assert set(others.tolist()) <= set(seen) <= {*range(4, POOL_SIZE)} - {*held_out.tolist()}


@pytest.mark.e2e
@every_strategy
def test_the_networks_features_are_those_at_which_the_first_round_begins(tmp_path: Path, name: str) -> None:
    networks: list[SmallCNN] = []

    def make_network() -> SmallCNN:
        networks.append(SmallCNN(CLASSES, width=4))
        return networks[-1]

    pool = Pool(POOL_SIZE, CLASSES)
    changes: dict[str, Any] = {"initial_acquisition": name, "hold_out": 0, "initial_labels": 4}
    settings = replace(SETTINGS, **changes)
    run(tmp_path / "run", settings=settings, pool=pool, data={}, make_network=make_network)
    view = make_datamodule(Pool(POOL_SIZE, CLASSES)).plain_view
    _, features = evaluate(networks[0], view, torch.arange(POOL_SIZE), batch_size=256)
    expected = query_first(FIRST_STRATEGIES[name](), torch.arange(POOL_SIZE), features, 4, 0)
    assert pool.labelled.tolist() == sorted(expected.tolist())
