"""Small data sets in real files: what a source makes of them, and what it refuses."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image

from assl_lightning.config.schema import Config
from assl_lightning.data.image_cache import Storage
from assl_lightning.data.image_table import is_drawn
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.data.sources.own_images import load_folder, load_image_folder, load_manifest
from assl_lightning.data.sources.undecodable import UndecodableImagesError, refuse_unreadable
from tests.stored_images import in_memory

SHAPE: dict[str, Any] = {"image_size": [6, 5], "channels": 3}


def pixels(number: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(number).integers(256, size=(6, 5, 3), dtype=np.uint8)


def make_tree(root: Path, classes: tuple[str, ...] = ("dent", "ok"), count: int = 8, first: int = 0) -> Path:
    """`count` images in each class; image k of all shows `pixels(first + k)`."""
    for place, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(pixels(first + place * count + number)).save(root / name / f"{number:02d}.png")
    return root


def expected_images(numbers: range | list[int]) -> torch.Tensor:
    return torch.from_numpy(np.stack([pixels(number).transpose(2, 0, 1) for number in numbers]))


def images_of(source: PoolSource) -> set[bytes]:
    images = torch.cat([in_memory(source.pool_images), in_memory(source.test_images)])
    return {image.numpy().tobytes() for image in images}


# --- what comes out --------------------------------------------------------------------------------------------------


def test_a_folder_is_a_pool_without_labels_and_its_test_set_has_the_classes(tmp_path: Path) -> None:
    make_tree(tmp_path / "pool", ("a", "b"))
    make_tree(tmp_path / "test", first=100)
    source = load_folder(tmp_path / "pool", tmp_path / "test", **SHAPE)

    assert torch.equal(in_memory(source.pool_images), expected_images(range(16)))
    assert source.hidden_labels.tolist() == [-1] * 16
    assert source.sample_ids[:2] == ("a/00.png", "a/01.png")
    assert torch.equal(in_memory(source.test_images), expected_images(range(100, 116)))
    assert source.test_labels.tolist() == [0] * 8 + [1] * 8
    assert source.class_names == ("dent", "ok")


@pytest.mark.parametrize("images", ["memory", "stream"])
def test_a_folder_may_have_a_few_labels_and_no_test_set(tmp_path: Path, images: Storage) -> None:
    make_tree(tmp_path / "pool", ("a", "b"))
    (tmp_path / "labels.csv").write_text("label,sample_id,who\nok,b/01.png,me\ndent,a/00.png,me\n,a/03.png,me\n\n")
    labels, cache = tmp_path / "labels.csv", tmp_path / "cache"
    source = load_folder(tmp_path / "pool", None, **SHAPE, labels=labels, images=images, cache=cache)
    assert source.class_names == ("dent", "ok")
    assert source.hidden_labels.tolist() == [0, *[-1] * 8, 1, *[-1] * 6]
    assert source.test_images.shape == (0, 3, 6, 5)
    assert source.test_labels.shape == (0,)

    names: Any = ["ok", 7, "dent"]
    source = load_folder(tmp_path / "pool", None, **SHAPE, labels=labels, class_names=names)
    assert source.class_names == ("ok", "7", "dent")
    assert source.hidden_labels[[0, 9]].tolist() == [2, 0]


def test_the_labels_of_a_folder_are_those_of_its_test_set(tmp_path: Path) -> None:
    make_tree(tmp_path / "pool", ("a", "b"))
    make_tree(tmp_path / "test", first=100)
    (tmp_path / "labels.csv").write_text("sample_id,label\na/00.png,ok\na/01.png,scratch\n")
    with pytest.raises(ValueError, match="line 3 has the label scratch, which is not among the classes"):
        load_folder(tmp_path / "pool", tmp_path / "test", **SHAPE, labels=tmp_path / "labels.csv")


def test_all_that_is_wrong_with_labels_is_said_at_once(tmp_path: Path) -> None:
    make_tree(tmp_path / "pool", ("a",))
    lines = ["sample_id,label", "a/00.png,ok", "a/00.png,dent", "a/99.png,ok", "a/01.png,okay", ",ok", "a/02.png"]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    with pytest.raises(
        ValueError, match=r"labels\.csv must have labels of images in the pool; 5 things are wrong"
    ) as told:
        load_folder(tmp_path / "pool", None, **SHAPE, labels=tmp_path / "labels.csv", class_names=["ok", "dent"])
    assert str(told.value).partition("wrong: ")[2] == (
        "line 4 has the sample_id a/99.png, which is no image of the pool; line 5 has the label okay, which is not "
        "among the classes; line 6: the answer 'ok' needs a sample_id; its cell is empty; line 7: a line must have 2 "
        "cells as the header has; it has 1; line 3: an annotator without a name says 'dent' of 'a/00.png', and 'ok' in "
        "line 2; leave one of them"
    )
    (tmp_path / "labels.csv").write_text("sample_id|label\na/00.png|ok")
    with pytest.raises(ValueError, match=r"labels\.csv, line 1: the columns must be sample_id and label, and may be "):
        load_folder(tmp_path / "pool", None, **SHAPE, labels=tmp_path / "labels.csv")
    with pytest.raises(FileNotFoundError, match=r"none\.csv must be a CSV or Parquet file with"):
        load_folder(tmp_path / "pool", None, **SHAPE, labels=tmp_path / "none.csv")


def test_a_folder_by_itself_does_not_say_which_classes_there_are(tmp_path: Path) -> None:
    make_tree(tmp_path / "pool", ("a",))
    with pytest.raises(ValueError, match="class_names must say which classes there are"):
        load_folder(tmp_path / "pool", None, **SHAPE)


def test_an_image_folder_parts_itself(tmp_path: Path) -> None:
    source = load_image_folder(make_tree(tmp_path / "root"), **SHAPE, test_fraction=0.4)

    of_pool = [int(name[-6:-4]) + (8 if name.startswith("ok") else 0) for name in source.sample_ids]
    of_test = [number for number in range(16) if number not in of_pool]
    assert 0 < len(of_test) < 16
    assert torch.equal(in_memory(source.pool_images), expected_images(of_pool))
    assert torch.equal(in_memory(source.test_images), expected_images(of_test))
    assert source.hidden_labels.tolist() == [number // 8 for number in of_pool]
    assert source.test_labels.tolist() == [number // 8 for number in of_test]


def test_an_image_folder_takes_another_for_its_test(tmp_path: Path) -> None:
    root, test_root = make_tree(tmp_path / "train"), make_tree(tmp_path / "test", ("ok",), first=100)
    source = load_image_folder(root, **SHAPE, test_root=test_root)
    assert source.sample_ids[0] == "dent/00.png"
    assert len(source.sample_ids) == 16
    assert source.test_labels.tolist() == [1] * 8, "by the classes of the pool"


def test_the_classes_of_a_configuration_decide_the_numbers(tmp_path: Path) -> None:
    root, test_root = make_tree(tmp_path / "train", ("1", "0")), make_tree(tmp_path / "test", ("1", "0"), first=100)
    numbers: Any = [1, 0, 2]  # as YAML has them
    source = load_image_folder(root, **SHAPE, test_root=test_root, class_names=numbers)
    assert source.class_names == ("1", "0", "2")
    assert source.hidden_labels.tolist() == [1] * 8 + [0] * 8, "the directory 0 comes first, and is class 1"


def test_a_manifest_has_known_and_unknown_labels(tmp_path: Path) -> None:
    make_tree(tmp_path / "images")
    lines = ["sample_id,path,label,split"]
    lines += [f"n{number},images/dent/{number:02d}.png,{'ok' if number else ''},pool" for number in range(4)]
    lines += [f"t{number},images/ok/{number:02d}.png,dent,test" for number in range(3)]
    (tmp_path / "images.csv").write_text("\n".join(lines))
    source = load_manifest(tmp_path / "images.csv", **SHAPE)

    assert source.sample_ids == ("n0", "n1", "n2", "n3")
    assert source.hidden_labels.tolist() == [-1, 1, 1, 1]
    assert torch.equal(in_memory(source.pool_images), expected_images(range(4)))
    assert torch.equal(in_memory(source.test_images), expected_images(range(8, 11)))
    assert source.test_labels.tolist() == [0, 0, 0]


def test_a_cache_changes_nothing(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "root")
    without = load_image_folder(root, **SHAPE)
    for _ in range(2):
        source = load_image_folder(root, **SHAPE, cache=tmp_path / "cache")
        assert torch.equal(in_memory(source.pool_images), in_memory(without.pool_images))
        assert torch.equal(in_memory(source.test_images), in_memory(without.test_images))
        assert source.sample_ids == without.sample_ids
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2


def test_images_that_come_keep_the_names_and_parts_of_the_others(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "root")
    before = load_image_folder(root, **SHAPE, test_fraction=0.5)
    for number in range(10):
        Image.fromarray(pixels(1000 + number)).save(root / "dent" / f"0{number}_new.png")
    after = load_image_folder(root, **SHAPE, test_fraction=0.5)
    assert set(before.sample_ids) <= set(after.sample_ids)
    assert images_of(before) < images_of(after)
    old_test = {image.numpy().tobytes() for image in in_memory(before.test_images)}
    assert old_test <= {image.numpy().tobytes() for image in in_memory(after.test_images)}


# --- what is refused -------------------------------------------------------------------------------------------------


def test_an_image_that_cannot_be_decoded_is_black_in_the_pool_and_an_error_in_the_test(tmp_path: Path) -> None:
    root, test_root = make_tree(tmp_path / "train"), make_tree(tmp_path / "test", first=100)
    (root / "ok" / "03.png").write_bytes(b"nothing")
    source = load_image_folder(root, **SHAPE, test_root=test_root)
    assert source.unreadable.tolist() == [11]
    assert source.sample_ids[11] == "ok/03.png"
    assert not in_memory(source.pool_images)[11].any()

    (test_root / "ok" / "03.png").write_bytes(b"nothing")
    with pytest.raises(
        ValueError, match="2 images cannot be decoded, 1 of the test set's and 1 of the pool's: "
    ) as caught:
        load_image_folder(root, **SHAPE, test_root=test_root)
    assert str(caught.value).endswith("(data.unreadable=exclude leaves out those of the pool alone)")


def links_to_nothing(root: Path, count: int = 3) -> Path:
    """A tree with `count` more images in each class that are links to what is not mounted."""
    for name in ("dent", "ok"):
        for number in range(count):
            (root / name / f"gone{number}.png").symlink_to(f"/not/mounted/{name}{number}.png")
    return root


@pytest.mark.parametrize("images", ["memory", "stream"])
def test_links_to_nothing_are_listed_and_never_drawn_for_the_test(tmp_path: Path, images: Storage) -> None:
    root = links_to_nothing(make_tree(tmp_path / "root"))
    names = {f"{kind}/gone{number}.png" for kind in ("dent", "ok") for number in range(3)}
    assert is_drawn("ok/gone0.png", 0.2, 0)
    whole = load_image_folder(make_tree(tmp_path / "whole"), **SHAPE)
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        source = load_image_folder(root, **SHAPE, images=images, cache=cache)
        unreadable = {
            source.sample_ids[place]: reason
            for place, reason in zip(source.unreadable.tolist(), source.reasons, strict=True)
        }
        assert unreadable.keys() == names, "that which would be drawn for the test tests nothing"
        assert unreadable["ok/gone2.png"] == f"{root}/ok/gone2.png (not read: a link to nothing, /not/mounted/ok2.png)"
        assert source.test_ids == whole.test_ids
        assert torch.equal(in_memory(source.test_images), in_memory(whole.test_images))

    with pytest.raises(UndecodableImagesError) as caught:
        refuse_unreadable(source)
    assert "; of these, 6 are links to nothing: mount what they lead to; mend them" in str(caught.value)


def test_a_link_that_leads_somewhere_again_is_looked_at_again(tmp_path: Path) -> None:
    root = links_to_nothing(make_tree(tmp_path / "root"), 1)
    for name in ("dent", "ok"):
        (root / name / "gone0.png").unlink()
        (root / name / "gone0.png").symlink_to(tmp_path / "target.png")
    for images in ("memory", "stream"):
        given: Any = {**SHAPE, "images": images, "cache": tmp_path / "cache"}
        assert len(load_image_folder(root, **given).unreadable) == 2
        Image.fromarray(pixels(0)).save(tmp_path / "target.png")
        assert len(load_image_folder(root, **given).unreadable) == 0
        (tmp_path / "target.png").unlink()


def test_a_pipe_that_is_called_an_image_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(make_tree(tmp_path / "root") / "ok" / "pipe.png")
    source = load_image_folder(tmp_path / "root", **SHAPE)
    assert source.reasons == (f"{tmp_path}/root/ok/pipe.png (not read: it is a pipe, no file)",)


def test_a_pool_of_which_nothing_is_left_is_an_error_whatever_may_be_left_out(tmp_path: Path) -> None:
    root, test_root = make_tree(tmp_path / "root", count=0), make_tree(tmp_path / "test")
    links_to_nothing(root)
    with pytest.raises(ValueError, match=r"^6 of the pool's images cannot be decoded: ") as caught:
        load_image_folder(root, **SHAPE, test_root=test_root)
    assert str(caught.value).endswith("; no image is left in the pool")


def test_reasons_stay_with_their_images(tmp_path: Path) -> None:
    root, test_root = links_to_nothing(make_tree(tmp_path / "root")), make_tree(tmp_path / "test")
    source = load_image_folder(root, **SHAPE, test_root=test_root)
    some = source.take(torch.tensor([len(source.sample_ids) - 1, 0, 9]))
    assert [some.sample_ids[place] for place in some.unreadable.tolist()] == ["ok/gone2.png", "dent/gone1.png"]
    assert [reason.partition(" ")[0] for reason in some.reasons] == [f"{root}/ok/gone2.png", f"{root}/dent/gone1.png"]


@pytest.mark.parametrize(("root", "test_root"), [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a", "link")])
def test_pool_and_test_are_apart(tmp_path: Path, root: str, test_root: str) -> None:
    make_tree(tmp_path / "a" / "b")
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    for load in (load_folder, load_image_folder):
        with pytest.raises(ValueError, match="root and test_root must be apart, neither inside the other"):
            load(tmp_path / root, test_root=tmp_path / test_root, **SHAPE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": "disk"}, "images must be one of memory, stream; got 'disk'"),
        ({"image_size": [6]}, "image_size must be [height, width], each at least 1; got [6]"),
        ({"resize": "stretch"}, "resize must be one of crop, squash; got 'stretch'"),
        ({"channels": 2}, "channels must be 1, for grey images, or 3, for colour; got 2"),
        ({"class_names": ["ok"]}, "dent/ (8 images) is not among the classes"),
        ({"test_fraction": 0.0}, "test_fraction must be above 0 and below 1"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        load_image_folder(make_tree(tmp_path / "root"), **(SHAPE | changes))


# --- as configured ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["folder", "image_folder", "manifest"])
def test_as_it_is_configured_a_source_gives_what_is_said_of_it(
    compose_run: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    make_tree(tmp_path / "pool")
    make_tree(tmp_path / "test", first=100)
    paths = sorted(path.relative_to(tmp_path) for path in (tmp_path / "pool").rglob("*.png"))
    (tmp_path / "images.csv").write_text("\n".join(["path,label", *(f"{path},{path.parent.name}" for path in paths)]))
    given = {
        "folder": ["data.root=pool", "data.source.test_root=test"],
        "image_folder": ["data.root=pool"],
        "manifest": ["data.source.manifest=images.csv"],
    }[name]
    monkeypatch.chdir(tmp_path)
    config = compose_run(f"data={name}", "data.num_classes=2", *given)
    source = instantiate(config.data.source)

    assert source.pool_images.shape[1:] == (config.data.channels, *config.data.image_size)
    assert source.class_names == ("dent", "ok")
    assert set(source.test_labels.tolist()) == {0, 1}
    assert set(source.hidden_labels.tolist()) == ({-1} if name == "folder" else {0, 1})
