"""Samples of every kind with their position, and the batches that they become."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from torchvision.datasets import FakeData
from torchvision.transforms.functional import pil_to_tensor

from assl_lightning import IndexedDataset
from assl_lightning.method.indexed_dataset import find_indexed, take_index

Named = namedtuple("Named", ["image", "label"])


class Samples(Dataset[Any]):
    def __init__(self, make: Any, count: int = 7) -> None:
        self.make, self.count = make, count
        self.classes = ["a", "b"]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Any:
        return self.make(torch.full((2,), float(i)), i % 2)


KINDS: dict[str, Any] = {
    "tuple": lambda image, label: (image, label),
    "list": lambda image, label: [image, label],
    "dict": lambda image, label: {"image": image, "label": label},
    "named tuple": Named,
    "tensor": lambda image, _: image,
    "number": lambda _, label: label,
    "tuple of one": lambda image, _: (image,),
    "views": lambda image, label: ((image, image + 1), label),
}


def rows(batch: Any) -> Any:
    return torch.utils._pytree.tree_map(lambda leaf: leaf.tolist() if isinstance(leaf, Tensor) else leaf, batch)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_its_index_is_the_batch_of_the_data_set_alone(kind: str, workers: int) -> None:
    plain = Samples(KINDS[kind])
    order = [5, 0, 3, 3, 6, 1]
    settings: dict[str, Any] = {"batch_size": 4, "sampler": order, "num_workers": workers}
    indexed = DataLoader(IndexedDataset(plain), **settings)
    for batch, expected, start in zip(indexed, DataLoader(plain, **settings), (0, 4), strict=True):
        index, rest = take_index(batch)
        assert index.tolist() == order[start : start + 4]
        assert index.dtype == torch.int64
        assert type(rest) is type(expected)
        assert rows(rest) == rows(expected)


@pytest.mark.parametrize("kind", ["tuple", "dict", "tensor"])
def test_a_batch_of_a_collate_fn_of_ones_own_has_its_index_where_it_was(kind: str) -> None:
    data = IndexedDataset(Samples(KINDS[kind]))

    def collate(samples: list[Any]) -> Any:
        if kind == "dict":
            return {key: [sample[key] for sample in samples] for key in samples[0]}
        return tuple(zip(*samples, strict=True))

    index, rest = take_index(next(iter(DataLoader(data, batch_size=3, collate_fn=collate))))
    assert index.tolist() == [0, 1, 2]
    assert len(rest) == {"tuple": 2, "dict": 2, "tensor": 3}[kind]


def test_subsets_concatenations_and_cut_pools_have_positions_of_the_pool() -> None:
    pool = IndexedDataset(Samples(KINDS["tuple"]))
    twice = Subset(Subset(pool, [6, 2, 4]), [0, 2])
    assert [int(twice[i][-1]) for i in range(2)] == [6, 4]
    assert Subset(pool, [6, 2]).__getitems__([1, 0])[0][-1] == 2
    assert pool[-1][-1] == 6
    cut = IndexedDataset(Samples(KINDS["tuple"], 3), index=[9, 4, 30])
    assert [int(cut[i][-1]) for i in range(3)] == [9, 4, 30]
    assert find_indexed(Subset(Subset(pool, [1]), [0])) == [pool]
    assert find_indexed(ConcatDataset([Subset(pool, [1]), cut])) == [pool, cut]
    assert find_indexed(ConcatDataset([pool, Samples(KINDS["tuple"])])) == []
    assert find_indexed(Samples(KINDS["tuple"])) == []


def test_it_wraps_what_torchvision_and_hugging_face_have() -> None:
    fake = IndexedDataset(FakeData(5, (3, 8, 8), num_classes=2, transform=pil_to_tensor))
    index, (images, _) = take_index(next(iter(DataLoader(fake, batch_size=3))))
    assert (index.tolist(), images.shape) == ([0, 1, 2], (3, 3, 8, 8))
    datasets = pytest.importorskip("datasets")
    faces = datasets.Dataset.from_dict({"pixels": [[1.0], [2.0], [3.0]], "label": [0, 1, 0]}).with_format("torch")
    index, rest = take_index(next(iter(DataLoader(Subset(IndexedDataset(faces), [2, 0]), batch_size=2))))
    assert (index.tolist(), rest["pixels"].tolist()) == ([2, 0], [[3.0], [1.0]])


def test_attributes_are_those_of_the_data_set_and_it_can_be_pickled() -> None:
    import pickle

    pool = pickle.loads(pickle.dumps(IndexedDataset(TensorDataset(torch.arange(3)), names=["a", "b", "c"])))
    assert (pool.tensors[0].tolist(), pool.names, len(pool)) == ([0, 1, 2], ["a", "b", "c"], 3)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pool.nothing


class Stream(IterableDataset[int]):
    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Any:
        return iter(range(3))


class Whole(Dataset[Any]):
    """Gives a batch at once for a list of positions, as TensorDataset and Hugging Face's do."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def __len__(self) -> int:
        return 7

    def __getitem__(self, position: Any) -> Any:
        return self.make(torch.arange(7.0)[position])


@pytest.mark.parametrize("index", [None, [6, 4, 2, 0, 1, 3, 5]])
@pytest.mark.parametrize("make", [lambda x: [x, x + 1], lambda x: {"x": x}, lambda x: x])
def test_a_sampler_of_whole_batches(make: Any, index: list[int] | None) -> None:
    order = [[5, 0, 3], [6, 1]]
    indexed = IndexedDataset(Whole(make), index=index)
    for batch, positions in zip(DataLoader(indexed, sampler=order, batch_size=None), order, strict=True):
        found, rest = take_index(batch)
        assert found.tolist() == [i if index is None else index[i] for i in positions]
        assert rows(rest) == rows(make(torch.arange(7.0)[positions]))


def test_a_data_set_that_fetches_something_else_than_samples_is_told() -> None:
    class Columns(Whole):
        def __getitems__(self, positions: Any) -> Any:
            return {"x": positions}

    with pytest.raises(ValueError, match=r"__getitems__ of Columns must return a list .* 3 positions; got dict of len"):
        next(iter(DataLoader(IndexedDataset(Columns(list)), batch_size=3)))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: IndexedDataset(Stream()),
            TypeError,
            "needs a map-style data set, .* got Stream, whose samples have no",
        ),
        (lambda: IndexedDataset(iter([1])), TypeError, "map-style"),
        (
            lambda: IndexedDataset({"train": [1], "test": [2]}),
            TypeError,
            "a dictionary with the keys train, test: give one of its values",
        ),
        (lambda: IndexedDataset(TensorDataset), TypeError, "an object that is a data set; got <class 'torch.utils"),
        (lambda: IndexedDataset("photos"), TypeError, "an object that is a data set; got 'photos'"),
        (lambda: IndexedDataset([1, 2], names="ab"), TypeError, "names must be a list .* got the text 'ab'"),
        (lambda: IndexedDataset([1, 2], names=["a"]), ValueError, "names must be as many as the samples, 2; got 1"),
        (lambda: IndexedDataset([1, 2], index=[1]), ValueError, r"one whole number for each of the 2 samples.*\(1,\)"),
        (lambda: IndexedDataset([1, 2], index=[1, 1]), ValueError, "one is negative or occurs twice"),
        (lambda: IndexedDataset(IndexedDataset([1])), ValueError, "is wrapped twice"),
        (lambda: IndexedDataset(Subset(IndexedDataset([1]), [0])), ValueError, "is wrapped twice"),
        (lambda: IndexedDataset([{"pool_index": 1}])[0], ValueError, "has the key 'pool_index' already"),
    ],
)
def test_a_data_set_that_cannot_be_indexed_is_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "batch",
    [
        {"image": torch.ones(2)},
        torch.ones(2),
        [torch.ones(2)],
        (torch.ones(2), torch.ones(2)),
        Named(torch.ones(2), torch.ones(2, dtype=torch.int64)),
        (torch.ones(2), ["a", "b"]),
    ],
)
def test_a_batch_whose_index_was_lost_is_told(batch: Any) -> None:
    with pytest.raises(ValueError, match=r"a collate_fn must leave (it|them) there"):
        take_index(batch)
