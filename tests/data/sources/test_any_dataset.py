"""Data sets that somebody has written, as a pool and a test set."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from assl_lightning.config.prepare import load_source
from assl_lightning.data.sources.any_dataset import load_dataset
from tests.stored_images import in_memory

PIXELS = np.random.default_rng(0).integers(256, size=(12, 6, 5, 3), dtype=np.uint8)
SHAPE: dict[str, Any] = {"image_size": [6, 5], "channels": 3, "num_classes": 2}


class Named(NamedTuple):
    title: str
    image: Any
    label: Any


class Photos(Dataset[Any]):
    """Twelve images, as pairs or as dictionaries, in an order."""

    def __init__(self, kind: str = "pair", order: tuple[int, ...] = tuple(range(12)), unlabelled: int = 0) -> None:
        self.kind, self.order, self.unlabelled = kind, order, unlabelled
        self.names = [f"photo/{number}" for number in order]
        self.too_few = self.names[1:]
        self.unnamed = [*self.names[1:], float("nan")]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> Any:
        number = self.order[place]
        image, label = Image.fromarray(PIXELS[number]), -1 if number < self.unlabelled else number % 2
        name, pixels = self.names[place], torch.from_numpy(PIXELS[number]).permute(2, 0, 1) / 255
        one_hot = torch.eye(2)[label] if label >= 0 else None
        shapes: dict[str, Any] = {
            "pair": (image, label),
            "keys": {"photo": image, "kind": label},
            "image": image,
            "index": (number, pixels, torch.tensor(label)),
            "name": (image, label, name),
            "no name": (image, label, ""),
            "one-hot": (pixels, one_hot),
            "named": Named(name, pixels, label),
            "list": [pixels, [label]],
            "named keys": {"photo": pixels, "kind": one_hot, "sample_id": name},
        }
        return shapes[self.kind]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


@pytest.mark.parametrize("kind", ["pair", "keys"])
def test_items_are_images_with_labels(kind: str) -> None:
    pool, test = Photos(kind, order=tuple(range(8)), unlabelled=3), Photos(kind, order=(8, 9, 10, 11))
    source = load_dataset(pool, **SHAPE, test=test, image="photo", label="kind", sample_ids="names")
    assert torch.equal(in_memory(source.pool_images), torch.from_numpy(PIXELS[:8]).permute(0, 3, 1, 2))
    assert torch.equal(in_memory(source.test_images), torch.from_numpy(PIXELS[8:]).permute(0, 3, 1, 2))
    assert source.hidden_labels.tolist() == [-1, -1, -1, 1, 0, 1, 0, 1]
    assert source.test_labels.tolist() == [0, 1, 0, 1]
    assert source.sample_ids == tuple(pool.names)
    assert source.class_names == ("0", "1")


@pytest.mark.parametrize(
    ("kind", "given", "has_names"),
    [
        ("index", {"fields": ["index", "image", "label"]}, False),
        ("name", {"fields": ["image", "label", "sample_id"]}, True),
        ("one-hot", {}, False),
        ("named", {}, False),
        ("named", {"fields": ["sample_id", "image", "label"]}, True),
        ("list", {}, False),
        ("named keys", {"image": "photo", "label": "kind", "fields": ["image", "label", "sample_id"]}, True),
    ],
)
def test_items_of_other_shapes_give_the_same_pool(kind: str, given: dict[str, Any], has_names: bool) -> None:
    plain = load_dataset(Photos(unlabelled=3), **SHAPE, test=Photos(order=(8, 9)), sample_ids="names")
    source = load_dataset(Photos(kind, unlabelled=3), **SHAPE, test=Photos(kind, order=(8, 9)), **given)
    assert torch.equal(in_memory(source.pool_images), in_memory(plain.pool_images))
    assert torch.equal(in_memory(source.test_images), in_memory(plain.test_images))
    assert source.hidden_labels.tolist() == plain.hidden_labels.tolist()
    assert source.test_labels.tolist() == plain.test_labels.tolist()
    assert (source.sample_ids == plain.sample_ids) == has_names


def test_images_alone_are_a_pool_without_labels() -> None:
    source = load_dataset(Photos("image"), **SHAPE, test=Photos())
    assert (source.hidden_labels < 0).all()
    assert len(source.pool_images) == len(source.test_images) == 12


def test_an_item_of_names_that_cannot_be_decoded_has_its_place_for_a_name() -> None:
    class Broken(Photos):
        def __getitem__(self, place: int) -> Any:
            if place == 5:
                raise OSError("a lost disk")
            return super().__getitem__(place)

    given: dict[str, Any] = SHAPE | {"fields": ["image", "label", "sample_id"]}
    source = load_dataset(Broken("name"), **given, test=Photos("name"))
    assert source.sample_ids[4:7] == ("photo/4", "pool/000005-undecodable", "photo/6")
    assert source.unreadable.tolist() == [5]


def test_without_names_another_order_is_another_data_set() -> None:
    names = load_dataset(Photos(), **SHAPE, test=Photos()).sample_ids
    turned = load_dataset(Photos(order=(1, 0, *range(2, 12))), **SHAPE, test=Photos()).sample_ids
    assert names[0].startswith("pool/000000-")
    assert set(names[:2]).isdisjoint(turned)
    assert names[2:] == turned[2:]


class Lazy(Photos):
    """Opened when an item is asked for, and decoded then, or later; item 7 ends too early."""

    def __init__(self, at_once: bool, broken: Sequence[int] = (7,)) -> None:
        super().__init__()
        self.at_once, self.broken = at_once, broken

    def __getitem__(self, place: int) -> Any:
        file = BytesIO()
        Image.fromarray(PIXELS[place]).resize((60, 60)).save(file, "JPEG")
        content = file.getvalue()[: -300 if place in self.broken else None]
        image: Image.Image = Image.open(BytesIO(content))
        return (image.convert("RGB") if self.at_once else image), place % 2


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("sample_ids", [None, "names"])
def test_an_item_that_cannot_be_decoded_is_listed_with_its_name_and_reason(
    at_once: bool, sample_ids: str | None
) -> None:
    given: dict[str, Any] = SHAPE | {"sample_ids": sample_ids, "test_fraction": 0.5}
    source = load_dataset(Lazy(at_once), **given)
    (place,) = source.unreadable.tolist()
    assert source.sample_ids[place] == ("photo/7" if sample_ids else "pool/000007-undecodable")
    assert source.reasons[0].startswith("item 7 (image file is truncated")
    assert not in_memory(source.pool_images)[place].any()
    assert source.hidden_labels[place].item() == (-1 if at_once else 1)


def test_a_test_set_of_its_own_must_be_whole() -> None:
    with pytest.raises(ValueError, match=r"1 of the test set's images cannot be decoded: item 7 \(.*take them out$"):
        load_dataset(Photos(), **SHAPE, test=Lazy(at_once=True))


def test_a_data_set_of_which_nothing_can_be_decoded_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"12 of the pool's images cannot be decoded: .*no image is left in the pool$"):
        load_dataset(Lazy(at_once=True, broken=range(12)), **SHAPE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"pool": [3, 4]},
            r"pool must have items \(image, label\), .*; item 0 of list is a int; name its parts in order with "
            r"data\.source\.fields, such as \[index,image,label\] or \[image,label,sample_id\]",
        ),
        (
            {"pool": Photos("index")},
            r"item 0 of Photos is 3 parts \(int, Tensor of shape \(3, 6, 5\), Tensor of shape \(\)\); name its parts",
        ),
        (
            {"pool": Photos("index"), "fields": ["image", "label"]},
            r"pool must have items \(image, label\), .* is 3 parts",
        ),
        (
            {"pool": Photos("keys")},
            "dictionaries with the key image; item 0 of Photos is a dictionary with the keys photo, kind: set "
            "data.source.image=KEY and data.source.label=KEY to two of them",
        ),
        ({"fields": ["index", "label"]}, r"fields must name the parts .* with image once .* got \[index,label\]"),
        ({"fields": ["image", "image"]}, r"got \[image,image\]"),
        ({"fields": ["image", "lable"]}, r"fields must call the label 'label', and has 'lable'; got \[image,lable\]"),
        (
            {"fields": ["image", "sample_id"], "sample_ids": "names"},
            "sample_ids=names and the field sample_id both name",
        ),
        (
            {"pool": Photos("no name"), "fields": ["image", "label", "sample_id"]},
            "sample_id must name each item; item 0 of",
        ),
        ({"pool": Stream()}, "a data set that streams cannot be a pool"),
        ({"pool": Photos}, r"type is none: give one, on the command line with data\.source\.pool\._target_="),
        (
            {"pool": "their.Photos"},
            r"pool must be a data set .*; their\.Photos is none: give one, on the command line with "
            r"data\.source\.pool\._target_=package\.Class",
        ),
        ({"sample_ids": "ids"}, "sample_ids=ids must name an attribute of Photos .* it has no such attribute"),
        ({"sample_ids": "too_few"}, "with a name for each of its 12 items; it has 11 names"),
        ({"sample_ids": "unnamed"}, "sample_ids=unnamed must name each item; item 11 has nan"),
        ({"num_classes": 1}, "the label of item 1 of the pool, 1, is not among the 1 classes"),
        ({"class_names": ["a", "a"]}, "class_names must be distinct; one thing is wrong: a is there 2 times"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_dataset(**({"pool": Photos(), "test": Photos()} | SHAPE | arguments))


def test_a_configuration_names_the_two_by_their_classes(compose_run: Any) -> None:
    fake = "{_target_: torchvision.datasets.FakeData, size: %d, image_size: [3, 8, 8], num_classes: 2}"
    config = compose_run(
        *("data=dataset", "data.num_classes=2", "data.image_size=[8,8]", "data.source.class_names=[ok,dent]"),
        *(f"data.source.pool={fake % 60}", f"data.source.test={fake % 7}"),
    )
    source = load_source(config)
    assert (len(source.pool_images), len(source.test_images)) == (60, 7)
    assert source.class_names == ("ok", "dent")
