"""Passes over images in files: as over images in memory to the last bit, and read ahead of the network."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from assl_lightning.data import image_stream
from assl_lightning.data.decoding import ImageFormat
from assl_lightning.data.image_stream import StreamedImages, images_in_parts
from assl_lightning.data.pool import Pool
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.learning.inference import evaluate
from assl_lightning.learning.trained_model import TrainedModel
from assl_lightning.learning.views import ReadView, mirrored
from assl_lightning.loop.querying import Picks, query
from assl_lightning.method.assl import ASSL
from assl_lightning.method.candidates import Acquisition, Candidates, Requirement, Selection
from assl_lightning.method.statistics import SampleStatistics
from assl_lightning.networks.small import SmallCNN
from tests.base.test_ahead import SECONDS, threads_of_its_own
from tests.stripes import CLASSES, IMAGES, LABELS, POOL_SIZE, make_datamodule

STORED = ("memory", "files")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    directory = tmp_path_factory.mktemp("images")
    paths = tuple(directory / f"{number:02d}.png" for number in range(POOL_SIZE))
    for path, image in zip(paths, IMAGES, strict=False):
        Image.fromarray(image[0].numpy()).save(path)
    return paths


def over(stored: str, files: tuple[Path, ...]) -> PoolDataModule:
    pool = Pool(POOL_SIZE, CLASSES)
    pool.label(torch.tensor([41, 3]), LABELS[[41, 3]], 0)
    images = StreamedImages(files, ImageFormat((8, 8), 1)) if stored == "files" else IMAGES[:POOL_SIZE]
    return make_datamodule(pool, pool_images=images, test_batch_size=7)


def make_network() -> SmallCNN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SmallCNN(CLASSES, width=4).eval()


@pytest.mark.parametrize("batch_size", [1, 7, 60, 100])
def test_a_pass_over_files_has_the_numbers_of_one_over_memory(files: tuple[Path, ...], batch_size: int) -> None:
    network, index = make_network(), torch.randperm(POOL_SIZE, generator=torch.Generator().manual_seed(0))
    found = []
    for stored in STORED:
        view = over(stored, files).plain_view
        assert isinstance(view, ReadView) == (stored == "files")
        both = [evaluate(network, one, index, batch_size=batch_size) for one in (view, mirrored(view))]
        found.append([*both[0], *both[1], view(index[:3]), mirrored(view)(index[:3])])
    for memory, file in zip(*found, strict=True):
        assert torch.equal(memory, file)
    assert not torch.equal(found[0][0], found[0][2])
    assert torch.equal(found[0][-1], found[0][-2].flip(-1))


class AsksForAll:
    """The first candidates; wants everything that a pass can give, and keeps it."""

    requires: frozenset[Requirement] = frozenset({"logits", "features", "labelled", "flipped_logits", "statistics"})

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        self.given = candidates
        return Selection(candidates.index[:budget])


def pick(stored: str, files: tuple[Path, ...], strategy: Acquisition) -> tuple[Picks, SampleStatistics]:
    statistics = SampleStatistics(POOL_SIZE)
    visited = torch.arange(0, POOL_SIZE, 2)  # the others are inferred
    statistics.update(visited, visited / 99, visited / 99)
    trained = TrainedModel(make_network(), statistics, nullcontext)
    return query(strategy, over(stored, files), trained, budget=9, unvisited="infer"), statistics


def test_a_query_of_files_has_the_picks_and_the_candidates_of_one_of_memory(files: tuple[Path, ...]) -> None:
    (picks, statistics), (of_files, statistics_of_files) = (pick(stored, files, ASSL()) for stored in STORED)
    assert torch.equal(picks.index, of_files.index)
    assert torch.equal(picks.probabilities, of_files.probabilities)
    of_memory, of_file = (list(vars(table.rows(slice(None))).items()) for table in (statistics, statistics_of_files))
    for (name, values), (_, of_files_values) in zip(of_memory, of_file, strict=True):
        assert torch.equal(values, of_files_values), name
    asking = [AsksForAll(), AsksForAll()]
    for stored, strategy in zip(STORED, asking, strict=True):
        pick(stored, files, strategy)
    for name in ("logits", "features", "flipped_logits"):
        memory, file = (getattr(strategy.given, name) for strategy in asking)
        assert torch.equal(memory, file), name
    assert threads_of_its_own() == []


class WaitsForTheNextPart(SmallCNN):
    """Computes a part when a later part is being read."""

    def __init__(self, is_read: dict[int, threading.Event]) -> None:
        super().__init__(CLASSES, width=4)
        self.is_read, self.done = is_read, 0

    def features(self, images: Tensor) -> Tensor:
        self.done += len(images)
        assert self.done not in self.is_read or self.is_read[self.done].wait(SECONDS)
        return super().features(images)


def test_the_next_part_is_read_while_the_network_computes() -> None:
    is_read = {number: threading.Event() for number in range(0, 20, 5)}

    def read(index: Tensor) -> Tensor:
        is_read[int(index[0])].set()
        return IMAGES[index]

    evaluate(WaitsForTheNextPart(is_read), ReadView(read, lambda pixels: pixels / 255), torch.arange(20), batch_size=5)
    assert threads_of_its_own() == []


def test_an_image_that_is_lost_meanwhile_is_named_where_its_part_would_have_come(
    files: tuple[Path, ...], tmp_path: Path
) -> None:
    lost = (*files[:16], tmp_path / "lost.png", *files[17:])
    network = WaitsForTheNextPart({})
    with pytest.raises(ValueError, match=r"lost\.png \(No such file.*\): an image that could be decoded when"):
        evaluate(network, over("files", lost).plain_view, torch.arange(POOL_SIZE), batch_size=5)
    assert network.done == 15
    assert threads_of_its_own() == []


def test_a_network_that_fails_leaves_no_thread(files: tuple[Path, ...]) -> None:
    class Failing(SmallCNN):
        def features(self, images: Tensor) -> Tensor:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate(Failing(CLASSES), over("files", files).plain_view, torch.arange(POOL_SIZE), batch_size=5)
    assert threads_of_its_own() == []


def test_parts_of_stored_images_come_with_their_indices(
    files: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = torch.tensor([8, 3, 1, 59, 0])
    for images in (IMAGES, StreamedImages(files, ImageFormat((8, 8), 1))):
        parts = list(images_in_parts(images, index, 2))
        assert [part.tolist() for part, _ in parts] == [[8, 3], [1, 59], [0]]
        assert torch.equal(torch.cat([found for _, found in parts]), IMAGES[index])
        assert list(images_in_parts(images, index[:0], 2)) == []
    monkeypatch.setattr(image_stream, "ahead", None)  # images in memory need no thread
    assert len(list(images_in_parts(IMAGES, index, 2))) == 3
