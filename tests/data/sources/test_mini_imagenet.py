"""Small files in the two formats that go round: a few images of each of the 100 classes."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from assl_lightning.data.sources.base import PoolSource
from assl_lightning.data.sources.mini_imagenet import load_mini_imagenet
from tests.stored_images import in_memory

SPLITS = {"train": 64, "val": 16, "test": 20}
EACH, TEST = 3, 1
SMALL: dict[str, Any] = {"images_per_class": EACH, "test_per_class": TEST}

Caches = dict[str, dict[str, Any]]


def make_caches(each: int = EACH) -> Caches:
    """Every pixel of an image is its number over all splits; a class's rows are scattered and not in order."""
    generator = np.random.default_rng(0)
    caches: Caches = {}
    first_class = 0
    for split, count in SPLITS.items():
        numbers = first_class * each + np.arange(count * each)
        images = np.broadcast_to(numbers[:, None, None, None], (len(numbers), 84, 84, 3)) % 256
        rows = generator.permutation(count * each).reshape(count, each)
        names = [f"n{generator.integers(10**6):08d}{number}" for number in range(count)]
        caches[split] = {
            "image_data": images.astype(np.uint8),
            "class_dict": {name: own.tolist() for name, own in zip(names, rows, strict=True)},
        }
        first_class += count
    return caches


def write_caches(root: Path, caches: Caches, protocol: int = 2) -> None:
    root.mkdir(exist_ok=True)
    for split, cache in caches.items():
        (root / f"mini-imagenet-cache-{split}.pkl").write_bytes(pickle.dumps(cache, protocol))


def make_image(number: int, size: tuple[int, int] = (84, 84)) -> Image.Image:
    """Noise, of which JPEG keeps little; seen by every reader alike."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def write_tables(root: Path, size: tuple[int, int] = (84, 84), each: int = EACH) -> dict[str, list[str]]:
    """Class → its files in the table's order, where classes are mixed."""
    (root / "images").mkdir(parents=True)
    files: dict[str, list[str]] = {}
    number = 0
    for split, count in SPLITS.items():
        lines = ["filename,label"]
        for place in range(each):
            for own in range(count):
                label = f"n{split}{own:02d}"
                name = f"{label}{place:08d}.jpg"
                make_image(number, size).save(root / "images" / name, quality=50)
                files.setdefault(label, []).append(name)
                lines.append(f"{name},{label}")
                number += 1
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return files


def check_source(source: PoolSource, names: list[str], images: list[list[npt.NDArray[np.uint8]]]) -> None:
    """`images`: for each class, in order, those of all its images (84, 84, 3); the first is the test's."""
    assert source.pool_images.shape == (200, 3, 84, 84)
    assert source.test_images.shape == (100, 3, 84, 84)
    assert in_memory(source.pool_images).is_contiguous()
    assert source.class_names == tuple(names)
    assert source.hidden_labels.tolist() == [number for number in range(100) for _ in range(2)]
    assert source.test_labels.tolist() == list(range(100))
    for number, of_class in enumerate(images):
        for found, expected in zip(
            [in_memory(source.test_images)[number], *in_memory(source.pool_images)[2 * number : 2 * number + 2]],
            of_class,
            strict=True,
        ):
            np.testing.assert_array_equal(found.permute(1, 2, 0), expected)
    expected_ids = [f"mini_imagenet/{name}/{place:05d}" for name in names for place in (1, 2)]
    assert list(source.sample_ids) == expected_ids


# --- pickles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_the_classes_of_train_val_and_test_follow_one_another_and_the_first_images_are_the_test_set(
    tmp_path: Path, protocol: int
) -> None:
    caches = make_caches()
    write_caches(tmp_path, caches, protocol)
    names = [name for cache in caches.values() for name in cache["class_dict"]]
    images = [
        [cache["image_data"][row] for row in rows] for cache in caches.values() for rows in cache["class_dict"].values()
    ]
    check_source(load_mini_imagenet(tmp_path, **SMALL), names, images)


def test_images_of_no_class_are_left_out(tmp_path: Path) -> None:
    caches = make_caches()
    write_caches(tmp_path, caches)
    expected = load_mini_imagenet(tmp_path, **SMALL)
    caches["val"]["image_data"] = np.concatenate([caches["val"]["image_data"], caches["val"]["image_data"][:2]])
    write_caches(tmp_path, caches)
    assert torch.equal(in_memory(load_mini_imagenet(tmp_path, **SMALL).pool_images), in_memory(expected.pool_images))


def drop_a_class(caches: Caches) -> None:
    caches["val"]["class_dict"].popitem()


def share_a_class(caches: Caches) -> None:
    _, rows = caches["test"]["class_dict"].popitem()
    caches["test"]["class_dict"][next(iter(caches["train"]["class_dict"]))] = rows


def shorten_a_class(caches: Caches) -> None:
    caches["test"]["class_dict"]["short"] = caches["test"]["class_dict"].popitem()[1][:2]


def use_an_image_twice(caches: Caches) -> None:
    first, second, *_ = caches["train"]["class_dict"].values()
    second[0] = first[2]


def use_images_of_another_size(caches: Caches) -> None:
    caches["train"]["image_data"] = caches["train"]["image_data"][:, :80]


def use_floats(caches: Caches) -> None:
    caches["train"]["image_data"] = caches["train"]["image_data"][:, :, :, 0].astype(np.float32)


def use_a_row_that_is_not_there(caches: Caches) -> None:
    next(iter(caches["val"]["class_dict"].values()))[1] = 16 * EACH


def use_a_row_from_the_end(caches: Caches) -> None:
    next(iter(caches["val"]["class_dict"].values()))[1] = -1


def use_no_row(caches: Caches) -> None:
    caches["val"]["class_dict"]["n9"] = "012"


def use_another_layout(caches: Caches) -> None:
    caches["train"] = {"images": caches["train"]["image_data"], "class_dict": caches["train"]["class_dict"]}


WRONG = [
    (drop_a_class, "val.pkl must have 16 classes, those of MiniImageNet's val split; it has 15"),
    (share_a_class, r"test.pkl has the class n\d+0, which an earlier split has too"),
    (shorten_a_class, "test.pkl must have images_per_class=3 images of each class; it has 2 of short"),
    (use_an_image_twice, r"train.pkl has the image \d+ twice, the second time in n\d+1"),
    (use_images_of_another_size, r"image_data of shape \(n, 84, 84, 3\) and type uint8; got \(192, 80, 84, 3\)"),
    (use_floats, r"type uint8; got \(192, 84, 84\) and float32"),
    (use_a_row_that_is_not_there, r"val.pkl must give class_dict\['n\d+0'\] as a list of rows of its 48 images"),
    (use_a_row_from_the_end, r"val.pkl must give class_dict\['n\d+0'\] as a list of rows of its 48 images"),
    (use_no_row, r"val.pkl must give class_dict\['n9'\] as a list of rows of its 48 images"),
    (use_another_layout, "train.pkl must hold a dictionary of image_data, an array, and class_dict, a dictionary"),
]


@pytest.mark.parametrize(("spoil", "message"), WRONG, ids=[spoil.__name__ for spoil, _ in WRONG])
def test_a_pickle_that_is_not_as_it_should_be_is_named(tmp_path: Path, spoil: Any, message: str) -> None:
    caches = make_caches()
    spoil(caches)
    write_caches(tmp_path, caches)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/mini-imagenet-cache-.*{message}"):
        load_mini_imagenet(tmp_path, **SMALL)


def test_a_damaged_pickle_is_named(tmp_path: Path) -> None:
    write_caches(tmp_path, make_caches())
    path = tmp_path / "mini-imagenet-cache-val.pkl"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{path} is damaged, or not a pickle"):
        load_mini_imagenet(tmp_path, **SMALL)


def test_whole_classes_are_expected_unless_another_size_is_given(tmp_path: Path) -> None:
    write_caches(tmp_path, make_caches())
    with pytest.raises(ValueError, match=r"must have images_per_class=600 images of each class; it has 3 of n"):
        load_mini_imagenet(tmp_path)


# --- tables and images -----------------------------------------------------------------------------------------------


def test_images_are_found_by_the_tables_in_the_order_of_their_lines(tmp_path: Path) -> None:
    files = write_tables(tmp_path)
    images = [[np.asarray(Image.open(tmp_path / "images" / name)) for name in own] for own in files.values()]
    check_source(load_mini_imagenet(tmp_path, **SMALL), list(files), images)


def test_larger_images_are_resized_as_pil_does_and_grey_ones_have_three_channels(tmp_path: Path) -> None:
    files = write_tables(tmp_path, size=(100, 90))
    first = tmp_path / "images" / files["ntrain00"][1]
    make_image(0, (120, 60)).convert("L").save(first)
    source = load_mini_imagenet(tmp_path, **SMALL)
    with Image.open(first) as image:
        grey = np.asarray(image.resize((84, 84), Image.Resampling.BILINEAR).convert("RGB"))
    with Image.open(tmp_path / "images" / files["ntest19"][2]) as image:
        last = np.asarray(image.resize((84, 84), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(in_memory(source.pool_images)[0].permute(1, 2, 0), grey)
    np.testing.assert_array_equal(in_memory(source.pool_images)[-1].permute(1, 2, 0), last)


def test_pickles_are_taken_where_both_formats_are_there(tmp_path: Path) -> None:
    write_tables(tmp_path)
    caches = make_caches()
    write_caches(tmp_path, caches)
    assert load_mini_imagenet(tmp_path, **SMALL).class_names[0] == next(iter(caches["train"]["class_dict"]))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "must begin with the line filename,label; it begins with ''"),
        ("file,class\na.jpg,n1\n", "must begin with the line filename,label; it begins with 'file,class'"),
        ("filename,label\na.jpg\n", "line 2 must have a filename and a label; got 'a.jpg'"),
        ("filename,label\n\n,n1\n", "line 3 must have a filename and a label; got ',n1'"),
        (
            "filename,label\nnone.jpg,n1\n",
            "line 2 names none.jpg, which is not in .*/images .images missing in all: 1",
        ),
        ("filename,label\n", "must have 16 classes, .*; it has 0"),
        ("\x00\xff", "cannot be read as a table"),
    ],
)
def test_a_table_that_is_not_as_it_should_be_is_named(tmp_path: Path, table: str, message: str) -> None:
    write_tables(tmp_path, each=2)
    (tmp_path / "val.csv").write_bytes(table.encode("latin1"))
    with pytest.raises((ValueError, FileNotFoundError), match=f"^{tmp_path}/val.csv,? {message}"):
        load_mini_imagenet(tmp_path, images_per_class=2, test_per_class=1)


def test_spaces_empty_lines_and_a_byte_order_mark_in_a_table_mean_nothing(tmp_path: Path) -> None:
    write_tables(tmp_path)
    expected = load_mini_imagenet(tmp_path, **SMALL)
    table = tmp_path / "train.csv"
    lines = table.read_text().replace(",", " , ").replace("\n", "\r\n\r\n")
    table.write_bytes(b"\xef\xbb\xbf" + lines.encode())
    found = load_mini_imagenet(tmp_path, **SMALL)
    assert found.sample_ids == expected.sample_ids
    assert torch.equal(in_memory(found.pool_images), in_memory(expected.pool_images))


def damage(path: Path, how: str) -> None:
    contents = {"short": path.read_bytes()[:300], "empty": b"", "text": b"<html>404</html>"}
    path.write_bytes(contents[how])


@pytest.mark.parametrize("how", ["short", "empty", "text"])
def test_a_pool_image_that_cannot_be_decoded_has_its_path_and_a_reason(tmp_path: Path, how: str) -> None:
    files = write_tables(tmp_path)
    path = tmp_path / "images" / files["nval03"][1]
    damage(path, how)
    (reason,) = load_mini_imagenet(tmp_path, **SMALL).reasons
    assert reason.startswith(f"{path} (")
    assert "0x" not in reason


def test_pool_images_that_cannot_be_decoded_are_black_and_listed_and_move_no_other(
    tmp_path: Path,
) -> None:
    files = write_tables(tmp_path)
    whole = load_mini_imagenet(tmp_path, **SMALL)
    for name, place in (("ntest19", 2), ("ntrain02", 1)):
        damage(tmp_path / "images" / files[name][place], "short")
    source = load_mini_imagenet(tmp_path, **SMALL)
    assert source.unreadable.tolist() == [2 * 2, 2 * 99 + 1]
    assert source.sample_ids == whole.sample_ids
    assert torch.equal(source.hidden_labels, whole.hidden_labels)
    expected = in_memory(whole.pool_images).clone()
    expected[source.unreadable] = 0
    assert torch.equal(in_memory(source.pool_images), expected)
    assert torch.equal(in_memory(source.test_images), in_memory(whole.test_images))


def test_a_test_image_that_cannot_be_decoded_is_an_error(tmp_path: Path) -> None:
    files = write_tables(tmp_path)
    path = tmp_path / "images" / files["nval03"][0]
    damage(path, "short")
    with pytest.raises(
        ValueError, match=rf"^1 of the test set's images cannot be decoded: {path} \(.*\); mend them or take them out$"
    ):
        load_mini_imagenet(tmp_path, **SMALL)


def test_a_file_that_cannot_be_read_at_all_is_an_error_since_it_may_be_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_tables(tmp_path)
    path = tmp_path / "images" / files["nval03"][1]
    path.unlink()
    path.mkdir()  # which is there, and is no file
    with pytest.raises(FileNotFoundError, match=r"names nval0300000001\.jpg, which is not in"):
        load_mini_imagenet(tmp_path, **SMALL)

    path.rmdir()
    path.touch()
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda file: fail_to_read() if file == path else read_bytes(file))
    with pytest.raises(OSError, match="Input/output error"):
        load_mini_imagenet(tmp_path, **SMALL)


def fail_to_read() -> bytes:
    raise OSError(5, "Input/output error")


# --- neither ---------------------------------------------------------------------------------------------------------


def test_missing_files_are_named_with_the_place_and_where_they_come_from(tmp_path: Path) -> None:
    write_caches(tmp_path, make_caches())
    (tmp_path / "mini-imagenet-cache-val.pkl").unlink()
    (tmp_path / "train.csv").touch()
    with pytest.raises(FileNotFoundError) as caught:
        load_mini_imagenet(tmp_path, **SMALL)
    message = str(caught.value)
    assert message.startswith(
        f"MiniImageNet must lie in {tmp_path}, either as pickles (missing: mini-imagenet-cache-val.pkl) or as tables "
        f"and images (missing: val.csv, test.csv, images/); it cannot be downloaded here: copy "
    )
    assert "\n" not in message


@pytest.mark.parametrize("test_per_class", [0, 3, 4, -1])
def test_a_test_set_that_leaves_nothing_on_one_side_is_refused(tmp_path: Path, test_per_class: int) -> None:
    with pytest.raises(ValueError, match=f"test_per_class must be in 1 … 2, .*; got {test_per_class}"):
        load_mini_imagenet(tmp_path, images_per_class=3, test_per_class=test_per_class)
