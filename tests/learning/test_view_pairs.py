from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from assl_lightning.augment.strong import StrongAugment
from assl_lightning.augment.weak import WeakAugment
from assl_lightning.base.seeding import Draws, derive_key
from assl_lightning.data.decoding import ImageFormat
from assl_lightning.data.image_stream import StoredImages, StreamedImages
from assl_lightning.data.pool import Pool
from assl_lightning.learning.view_pairs import PairIndices, PairSampler, ViewPairDataModule, ViewPairs
from tests.stripes import CLASSES, IMAGES, POOL_SIZE, make_datamodule

INDEX = torch.tensor([i for i in range(40) if i % 5])  # 32 of them


def batches(size: int = 5, steps: int = 20, index: Tensor = INDEX, **where: int) -> list[PairIndices]:
    return list(PairSampler(index, 3, steps, size, **where))


def test_within_a_pass_no_sample_comes_twice_and_all_come_in_time() -> None:
    drawn = batches(steps=600)
    for start in range(0, 600, 6):
        assert len(torch.cat([batch.sample for batch in drawn[start : start + 6]]).unique()) == 30
    counts = Counter(torch.cat([batch.sample for batch in drawn]).tolist())
    assert set(counts) == set(INDEX.tolist())
    assert max(counts.values()) - min(counts.values()) < 20, "of 100 passes, each of which leaves 2 of 32 out"
    assert [batch.step for batch in drawn] == list(range(600))


def test_a_batch_is_at_most_all_samples() -> None:
    for batch in batches(size=100):
        assert batch.sample.sort().values.tolist() == INDEX.tolist()


def test_the_seed_decides_and_the_batch_is_a_function_of_the_step() -> None:
    sampler, other = PairSampler(INDEX, 3, 20, 5), PairSampler(INDEX, 4, 20, 5)
    assert any(not torch.equal(one.sample, its.sample) for one, its in zip(sampler, other, strict=True))
    for batch in reversed(list(sampler)):
        assert torch.equal(sampler.pair_indices(batch.step).sample, batch.sample)
    sampler.start_at(7)
    assert [batch.step for batch in sampler] == list(range(7, 20))


def test_ranks_share_the_batch_of_one_process_in_their_order() -> None:
    ranks = [batches(size=6, num_replicas=3, rank=rank) for rank in range(3)]
    for whole, *parts in zip(batches(size=6), *ranks, strict=True):
        assert torch.equal(torch.cat([part.sample for part in parts]), whole.sample)
        assert torch.equal(torch.cat([part.row for part in parts]), whole.row)


def test_all_ranks_have_as_many_samples_where_the_pool_is_smaller_than_a_batch() -> None:
    for rank in range(3):
        assert {len(batch.sample) for batch in batches(size=100, num_replicas=3, rank=rank)} == {10}


@pytest.mark.parametrize(("count", "ranks"), [(1, 1), (2, 3), (0, 1)])
def test_images_that_cannot_be_compared_are_refused(count: int, ranks: int) -> None:
    with pytest.raises(ValueError, match=rf"at least {max(2, ranks)} images must .* the pool has {count} to train on"):
        PairSampler(INDEX[:count], 0, 5, 8, num_replicas=ranks)


# ---- views


def pairs(images: StoredImages = IMAGES[:POOL_SIZE], seed: int = 2, num_workers: int = 0) -> list[ViewPairs]:
    data = make_datamodule(Pool(POOL_SIZE, CLASSES), pool_images=images, seed=seed, num_workers=num_workers)
    module = ViewPairDataModule(data, INDEX, steps=4, batch_size=6)
    return [module.on_after_batch_transfer(item, 0) for item in module.train_dataloader()]


def test_each_batch_has_two_strong_views_of_its_images_with_draws_of_their_own() -> None:
    strong = StrongAugment(weak=WeakAugment(flip=False))
    for step, batch in enumerate(pairs()):
        assert torch.equal(batch["index"], PairSampler(INDEX, 2, 4, 6).pair_indices(step).sample)
        for number, view in enumerate((batch["first"], batch["second"])):
            draws = Draws(derive_key(2, "warm_up_view", number, step), torch.arange(6))
            expected = (strong(IMAGES[batch["index"]], draws).float() / 255 - 0.5) / 0.3
            torch.testing.assert_close(view, expected, rtol=1e-5, atol=1e-5)
        assert not torch.equal(batch["first"], batch["second"])
    assert any(not torch.equal(one["first"], its["first"]) for one, its in zip(pairs(), pairs(seed=5), strict=True))


def test_images_in_files_give_the_same_batches_with_and_without_workers(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number:02d}.png" for number in range(POOL_SIZE)]
    for path, image in zip(paths, IMAGES[:POOL_SIZE], strict=True):
        Image.fromarray(image[0].numpy()).save(path)
    files = StreamedImages(paths, ImageFormat((8, 8), 1, "crop"))
    for num_workers in (0, 1):
        for batch, expected in zip(pairs(files, num_workers=num_workers), pairs(), strict=True):
            assert torch.equal(batch["index"], expected["index"])
            assert torch.equal(batch["first"], expected["first"])
            assert torch.equal(batch["second"], expected["second"])


def test_an_image_that_cannot_be_decoded_any_more_is_named(tmp_path: Path) -> None:
    files = StreamedImages([tmp_path / "gone.png"] * POOL_SIZE, ImageFormat((8, 8), 1, "crop"))
    with pytest.raises(ValueError, match=r"gone\.png .* cannot be any more; put it back"):
        pairs(files)
