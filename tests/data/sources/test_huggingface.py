"""Data sets made here and saved with `datasets`, against what was put into them."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
pyarrow = pytest.importorskip("pyarrow", reason="comes with datasets")

from assl_lightning.data.image_stream import StreamedImages, count_pixels  # noqa: E402
from assl_lightning.data.sources.huggingface import _read_cell, find_split, load_huggingface  # noqa: E402
from tests.stored_images import in_memory  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of that package's own

PIXELS = np.random.default_rng(0).integers(256, size=(12, 6, 5, 3), dtype=np.uint8)
NAMES = ["ok", "dent"]
SHAPE: dict[str, Any] = {"image_size": [6, 5], "channels": 3, "num_classes": 2}


def table(numbers: Any, kind: Any = None, labels: list[Any] | None = None, **columns: list[Any]) -> Any:
    features = {"image": datasets.Image(), "label": kind or datasets.ClassLabel(names=NAMES)}
    rows = {
        "image": [Image.fromarray(PIXELS[number]) for number in numbers],
        "label": labels or [number % 2 for number in numbers],
    }
    features |= {name: datasets.Value("string") for name in columns}
    return datasets.Dataset.from_dict(rows | columns, features=datasets.Features(features))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    both = {"train": table(range(8), named=[f"photo/{number}" for number in range(8)]), "test": table(range(8, 12))}
    datasets.DatasetDict(both).save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_a_directory_that_was_saved_gives_pool_and_test(saved: Path) -> None:
    source = load_huggingface(saved, **SHAPE)
    assert torch.equal(in_memory(source.pool_images), torch.from_numpy(PIXELS[:8]).permute(0, 3, 1, 2))
    assert torch.equal(in_memory(source.test_images), torch.from_numpy(PIXELS[8:]).permute(0, 3, 1, 2))
    assert source.hidden_labels.tolist() == [number % 2 for number in range(8)]
    assert source.test_labels.tolist() == [0, 1, 0, 1]
    assert source.class_names == ("ok", "dent")
    assert source.sample_ids[3].startswith("train/000003-")
    assert load_huggingface(saved, **SHAPE, sample_id="named").sample_ids[3] == "photo/3"


def test_a_row_whose_file_is_gone_or_damaged_is_named_and_may_be_left_out(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[0]).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    names = ["whole", "half", "link", "gone", "whole", "whole", "whole", "whole"]
    columns = {"image": [str(tmp_path / f"{name}.png") for name in names], "label": [0, 1] * 4}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    rows = datasets.Dataset.from_dict(columns, features=features)
    table(range(8)).save_to_disk(str(tmp_path / "saved"))
    (file,) = (tmp_path / "saved").glob("data-*.arrow")  # saved as it is, `datasets` would read the files now
    with file.open("wb") as stream, pyarrow.ipc.new_stream(stream, rows.data.table.schema) as writer:
        writer.write_table(rows.data.table)
    given: dict[str, Any] = {**SHAPE, "split": None, "test_split": None, "test_fraction": 0.4}
    source = load_huggingface(tmp_path / "saved", **given)
    unreadable = [source.sample_ids[place] for place in source.unreadable.tolist()]
    assert [name.partition("-")[0] for name in unreadable] == ["rows/000001", "rows/000002", "rows/000003"]
    assert source.reasons[1] == f"row 2 ({tmp_path}/link.png: not read: a link to nothing, {tmp_path}/nowhere.png)"


def test_one_table_parts_itself_and_rows_that_move_are_others(tmp_path: Path) -> None:
    table(range(12)).save_to_disk(str(tmp_path / "one"))
    table([1, 0, *range(2, 12)]).save_to_disk(str(tmp_path / "turned"))
    one, turned = (
        load_huggingface(tmp_path / name, **SHAPE, split=None, test_split=None, test_fraction=0.4)
        for name in ("one", "turned")
    )
    assert 0 < len(one.test_labels) < 12
    kept = {name for name in (*one.sample_ids, *turned.sample_ids) if int(name[5:11]) > 1}
    assert set(one.sample_ids) & kept == set(turned.sample_ids) & kept
    assert not {name for name in one.sample_ids if name not in kept} & set(turned.sample_ids)


def test_parquet_files_are_read_by_the_directory_that_holds_them(tmp_path: Path, saved: Path) -> None:
    (tmp_path / "files").mkdir()
    table(range(8)).to_parquet(str(tmp_path / "files" / "train.parquet"))
    table(range(8, 12)).to_parquet(str(tmp_path / "files" / "test.parquet"))
    source, expected = load_huggingface(tmp_path / "files", **SHAPE), load_huggingface(saved, **SHAPE)
    assert torch.equal(in_memory(source.pool_images), in_memory(expected.pool_images))
    assert source.hidden_labels.tolist() == expected.hidden_labels.tolist()
    assert source.class_names == expected.class_names


@pytest.mark.parametrize(
    ("kind", "labels", "class_names", "expected"),
    [
        ("string", ["dent", None, "ok", "ok"], None, ([0, -1, 1, 1], ("dent", "ok"))),
        ("string", ["dent", None, "ok", "ok"], ["ok", "dent"], ([1, -1, 0, 0], ("ok", "dent"))),
        ("int64", [0, -1, 1, 1], None, ([0, -1, 1, 1], ("0", "1"))),
    ],
)
def test_labels_may_be_texts_or_numbers(
    tmp_path: Path, kind: str, labels: list[Any], class_names: list[str] | None, expected: tuple[Any, Any]
) -> None:
    both = {
        "train": table(range(4), datasets.Value(kind), labels),
        "test": table([4], datasets.Value(kind), labels[:1]),
    }
    datasets.DatasetDict(both).save_to_disk(str(tmp_path / "saved"))
    source = load_huggingface(tmp_path / "saved", **SHAPE, class_names=class_names)
    assert (source.hidden_labels.tolist(), source.class_names) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "training"}, "split must be one of train, test, the splits that the data set has; got 'training'"),
        (
            {"test_split": None, "label": None},
            "none of the 8 images has a label, and labelled ones are needed",
        ),
        ({"image": "photo"}, "image must be one of the columns image, label, named; got 'photo'"),
        ({"image": "named"}, "the column named must have the feature Image; it is Value"),
        ({"sample_id": "id"}, "sample_id must be one of the columns image, label, named; got 'id'"),
        ({"sample_id": "label"}, "sample_ids must be distinct"),
    ],
)
def test_what_cannot_be_is_refused(saved: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        load_huggingface(saved, **(SHAPE | arguments))


def test_a_damaged_image_is_listed(tmp_path: Path) -> None:
    rows = {"image": [{"bytes": b"nothing", "path": None}, None], "label": [0, 1]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    damaged = datasets.concatenate_datasets([table(range(3)), datasets.Dataset.from_dict(rows, features=features)])
    datasets.DatasetDict({"train": damaged, "test": table([4])}).save_to_disk(str(tmp_path / "saved"))
    source = load_huggingface(tmp_path / "saved", **SHAPE)
    assert source.unreadable.tolist() == [3, 4]
    assert source.reasons[0].startswith("row 3 (no image format")
    assert source.hidden_labels.tolist() == [0, 1, 0, 0, 1]


def shards(directory: Path) -> dict[str, Any]:
    """Write the pool in three Parquet files and the test in one, and return how they are named."""
    directory.mkdir()
    for number, rows in enumerate((range(3), range(3, 6), range(6, 8))):
        table(rows, named=[f"photo/{row}" for row in rows]).to_parquet(str(directory / f"train-{number:05d}.parquet"))
    table(range(8, 12)).to_parquet(str(directory / "test.parquet"))
    return {"train": f"{directory}/train-*.parquet", "test": f"{directory}/test.parquet"}


def test_shards_are_read_by_row_and_stay_on_the_disk_on_request(tmp_path: Path, saved: Path) -> None:
    files = shards(tmp_path / "shards")
    expected = load_huggingface(saved, **SHAPE)
    source = load_huggingface("parquet", **SHAPE, data_files=files, images="stream")
    assert isinstance(source.pool_images, StreamedImages)
    assert torch.equal(in_memory(source.pool_images), in_memory(expected.pool_images))
    assert torch.equal(in_memory(source.test_images), in_memory(expected.test_images))
    assert torch.equal(source.pool_images[torch.tensor([6, 2, 6])], in_memory(expected.pool_images)[[6, 2, 6]])
    assert source.hidden_labels.tolist() == expected.hidden_labels.tolist()
    assert source.sample_ids == expected.sample_ids
    named = load_huggingface("parquet", **SHAPE, data_files=files, images="stream", sample_id="named")
    assert named.sample_ids[4] == "photo/4"
    counted = source.pool_images.histogram
    assert counted is not None
    assert torch.equal(counted, count_pixels(in_memory(expected.pool_images)))
    again = pickle.loads(pickle.dumps(source.pool_images))  # as a worker that is started gets them
    assert torch.equal(in_memory(again), in_memory(expected.pool_images))


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({"train": "{here}/nothing-*.parquet"}, OSError, "Error: .*"),
        ({"train": "{here}/train-*.parquet", "test": "s4://bucket/x.parquet"}, OSError, "Protocol not known: s4"),
        ("train-00000.parquet", TypeError, "got 'train-00000.parquet'"),
    ],
)
def test_shards_that_are_not_there_are_refused_in_one_sentence(
    files: Any, error: type[Exception], message: str, tmp_path: Path
) -> None:
    shards(tmp_path / "shards")
    here = str(tmp_path / "shards")
    given: Any = files if isinstance(files, str) else {split: name.format(here=here) for split, name in files.items()}
    with pytest.raises(error, match=rf"^data_files (cannot be loaded|must name files).*{message}"):
        load_huggingface("parquet", **SHAPE, data_files=given)


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_a_full_disk_is_not_blamed_on_the_files(is_wrapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> Any:
        full = OSError(errno.ENOSPC, "No space left on device")
        if is_wrapped:
            raise datasets.exceptions.DatasetGenerationError("an error occurred") from full
        raise full

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(OSError, match="No space left") as caught:
        load_huggingface("parquet", **SHAPE, data_files={"train": "x.parquet"})
    assert caught.value.errno == errno.ENOSPC


def test_shards_that_are_drawn_from_and_have_a_damaged_row_are_streamed_too(tmp_path: Path) -> None:
    rows = {"image": [{"bytes": b"nothing", "path": None}, None], "label": [0, 1]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    damaged = datasets.concatenate_datasets([table(range(8)), datasets.Dataset.from_dict(rows, features=features)])
    damaged.to_parquet(str(tmp_path / "all.parquet"))
    given: dict[str, Any] = {**SHAPE, "data_files": {"train": str(tmp_path / "all.parquet")}, "test_split": None}
    kept, streamed = (load_huggingface("parquet", **given, images=images) for images in ("memory", "stream"))
    assert torch.equal(in_memory(streamed.pool_images), in_memory(kept.pool_images))
    assert torch.equal(in_memory(streamed.test_images), in_memory(kept.test_images))
    assert streamed.unreadable.tolist() == kept.unreadable.tolist() != []
    assert (streamed.sample_ids, streamed.reasons) == (kept.sample_ids, kept.reasons)


def test_a_data_set_that_streams_is_refused(saved: Path) -> None:
    streamed = datasets.load_from_disk(str(saved))["train"].to_iterable_dataset()
    with pytest.raises(TypeError, match="a data set that streams has none; load it without streaming"):
        find_split(streamed, "train", "split")


def test_a_row_without_an_id_is_refused(tmp_path: Path) -> None:
    table(range(3), named=["a", None, "c"]).save_to_disk(str(tmp_path / "one"))
    with pytest.raises(ValueError, match="row 1 has no sample_id; fill it in, or name no column for it"):
        load_huggingface(tmp_path / "one", **SHAPE, split=None, test_split=None, sample_id="named")


def test_a_folder_that_has_a_runs_own_pictures_in_it_is_refused(tmp_path: Path) -> None:
    pictures = tmp_path / "round_00" / "to_label" / "images"
    pictures.mkdir(parents=True)
    Image.fromarray(PIXELS[0]).save(pictures / "0000.png")
    with pytest.raises(ValueError, match=r"0000\.png is a picture that a run has written"):
        _read_cell(0, {"bytes": None, "path": str(pictures / "0000.png")})
