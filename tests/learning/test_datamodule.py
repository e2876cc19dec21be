from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from assl_lightning import PoolDataModule
from assl_lightning.augment.normalise import Normalise
from assl_lightning.augment.strong import StrongAugment
from assl_lightning.augment.weak import WeakAugment
from assl_lightning.base.seeding import Draws, derive_key
from assl_lightning.data.pool import Pool
from assl_lightning.method.contracts import Batch
from tests.emulated_device import CUDA, emulated_cuda_gpu

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(256, (40, 1, 12, 12), dtype=torch.uint8, generator=GENERATOR)
LABELS = torch.randint(3, (40,), generator=GENERATOR)
TEST_IMAGES, TEST_LABELS = IMAGES[:7].flip(0), LABELS[:7].flip(0)
NORMALISE = Normalise((0.5,), (0.25,))
WEAK = WeakAugment(flip=False)


def make_datamodule(**changes: Any) -> PoolDataModule:
    pool = Pool(40, 3)
    start = torch.tensor([5, 30, 11])
    pool.label(start, LABELS[start], 0)
    settings: dict[str, Any] = {
        "pool_images": IMAGES,
        "test_images": TEST_IMAGES,
        "test_labels": TEST_LABELS,
        "normalise": NORMALISE,
        "weak": WEAK,
        "strong": StrongAugment(weak=WEAK),
        "batch_size": 4,
        "mu": 2,
        "test_batch_size": 4,
        "steps_per_round": 6,
    }
    return PoolDataModule(pool, **(settings | changes))


def training_batches(datamodule: PoolDataModule) -> list[Batch]:
    return [datamodule.on_after_batch_transfer(item, 0) for item in datamodule.train_dataloader()]  # type: ignore[misc]


def assert_same(one: Batch, other: Batch) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        expected = other[key]  # type: ignore[literal-required]
        if isinstance(value, Tensor):
            assert torch.equal(value, expected), key
        else:
            assert value == expected


def test_a_batch_holds_what_the_pool_and_the_augmentation_say() -> None:
    datamodule = make_datamodule()
    assert [batch["step"] for batch in training_batches(datamodule)] == list(range(6))


@pytest.mark.parametrize("round_number", [0, 3])
def test_each_view_has_draws_of_its_own_from_seed_round_step_and_row(round_number: int) -> None:
    datamodule = make_datamodule()
    datamodule.start_round(round_number, seed=7, steps_per_round=6)
    batches = training_batches(datamodule)
    for batch in batches:
        assert set(batch["labelled_index"].tolist()) <= {5, 11, 30}
        assert torch.equal(batch["label"], LABELS[batch["labelled_index"]])
        assert not set(batch["index"].tolist()) & {5, 11, 30}
        assert batch["weak"].shape == batch["strong"].shape == (8, 1, 12, 12)
        assert batch["weak"].dtype == torch.float32
        expected: list[tuple[Tensor, str, Any, Tensor]] = [
            (batch["labelled_image"], "labelled_view", WEAK, batch["labelled_index"]),
            (batch["weak"], "weak_view", WEAK, batch["index"]),
            (batch["strong"], "strong_view", StrongAugment(weak=WEAK), batch["index"]),
        ]
        for view, purpose, augment, index in expected:
            draws = Draws(derive_key(7, purpose, round_number, batch["step"]), torch.arange(len(index)))
            assert torch.equal(view, NORMALISE(augment(IMAGES[index], draws))), purpose


def test_the_same_seed_and_round_give_the_same_batches_and_another_does_not() -> None:
    first = training_batches(make_datamodule())
    for one, other in zip(first, training_batches(make_datamodule()), strict=True):
        assert_same(one, other)
    for changed in (make_datamodule(seed=1), make_datamodule()):
        if changed.seed == 0:
            changed.start_round(1, seed=0, steps_per_round=6)
        assert not torch.equal(training_batches(changed)[0]["strong"], first[0]["strong"])


def test_labels_of_unlabelled_samples_are_nowhere_in_the_datamodule() -> None:
    datamodule = make_datamodule()
    assert (datamodule.pool.labels[datamodule.pool.unlabelled] == -1).all()
    tensors = [value for value in vars(datamodule).values() if isinstance(value, Tensor)]
    assert not any(value.shape == LABELS.shape for value in tensors)


def test_a_plain_labelled_view_is_not_augmented() -> None:
    batch = training_batches(make_datamodule(labelled_view="plain"))[0]
    assert torch.equal(batch["labelled_image"], NORMALISE(IMAGES[batch["labelled_index"]]))


def test_without_unlabelled_images_the_views_are_empty() -> None:
    batch = training_batches(make_datamodule(mu=0))[0]
    assert batch["index"].shape == (0,)
    assert batch["weak"].shape == batch["strong"].shape == (0, 1, 12, 12)


def test_labelled_samples_join_the_unlabelled_stream_on_request() -> None:
    datamodule = make_datamodule(include_labelled=True, steps_per_round=10)
    seen = torch.cat([batch["index"] for batch in training_batches(datamodule)])
    assert {5, 11, 30} <= set(seen.tolist())
    assert len(datamodule.streamed) == 40


def test_excluded_samples_are_never_drawn() -> None:
    datamodule = make_datamodule(include_labelled=True, steps_per_round=30)
    datamodule.pool.exclude(torch.arange(12, 30))
    seen = torch.cat([batch["index"] for batch in training_batches(datamodule)])
    assert not set(range(12, 30)) & set(seen.tolist())


def test_distinct_draws_are_promised_only_while_a_batch_fits_into_the_pool() -> None:
    assert make_datamodule(mu=9).draws_distinct
    assert not make_datamodule(mu=10).draws_distinct


def test_passes_and_epochs_give_the_number_of_steps() -> None:
    datamodule = make_datamodule(labelled_stream="passes", max_passes=4, batch_size=2, mu=0, steps_per_round=100)
    assert datamodule.num_steps == 4  # three labelled: a batch of two, and a single one that is left out
    datamodule = make_datamodule(steps_per_round=10, steps_per_epoch=4)
    assert (datamodule.num_steps, datamodule.num_epochs) == (10, 3)


def test_the_test_set_comes_once_in_order_and_is_padded() -> None:
    datamodule = make_datamodule()
    batches = [datamodule.on_after_batch_transfer(item, 0) for item in datamodule.val_dataloader()]
    labels = torch.cat([batch["label"] for batch in batches])
    assert labels.tolist() == [*TEST_LABELS.tolist(), -1]
    images = torch.cat([batch["image"] for batch in batches])  # type: ignore[typeddict-item]
    assert torch.equal(images[:7], NORMALISE(TEST_IMAGES))


def test_a_pool_on_a_gpu_stays_there_where_somebody_looks_at_a_few_images() -> None:
    datamodule, index = make_datamodule(), torch.tensor([3, 0])
    with emulated_cuda_gpu():
        assert torch.equal(datamodule.images(index.to(CUDA)).cpu(), IMAGES[index])
        assert torch.equal(datamodule.images(index), IMAGES[index])
        assert datamodule.pool_images.device == CUDA  # type: ignore[union-attr]


def test_views_outside_of_training_depend_on_the_sample_alone() -> None:
    datamodule = make_datamodule()
    weak, strong = datamodule.augmented_views(torch.tensor([4, 9]), "infer")
    again, _ = datamodule.augmented_views(torch.tensor([9]), "infer")
    assert torch.equal(weak[1:], again)
    assert not torch.equal(weak, strong)
    assert torch.equal(datamodule.plain_view(torch.tensor([4])), NORMALISE(IMAGES[4:5]))


def test_a_checkpoint_carries_who_is_labelled() -> None:
    datamodule, again = make_datamodule(), make_datamodule()
    datamodule.pool.label(torch.tensor([0]), torch.tensor([1]), 1)
    again.load_state_dict(datamodule.state_dict())
    assert again.pool.labelled.tolist() == [0, 5, 11, 30]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool_images": IMAGES[:5]}, "the pool has 40 samples, but there are 5 pool images"),
        ({"batch_size": 0}, "batch_size must be at least 1 and at most 1000000000; got 0"),
        ({"mu": -1}, "mu must be at least 0 and at most 1000000000; got -1"),
        ({"labelled_view": "strong"}, "labelled_view must be one of weak, plain; got 'strong'"),
        ({"labelled_stream": "cycle"}, "labelled_stream must be one of tiled, passes; got 'cycle'"),
        ({"steps_per_round": 0}, "steps_per_round must be at least 1 and at most 1000000000; got 0"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be at least 1 and at most 1000000000, or None; got 0"),
    ],
)
def test_an_impossible_setting_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_datamodule(**changes)
