"""From files to a table. The files hold nothing: here only their names count."""

from __future__ import annotations

import csv
import logging
import os
import random
import re
import struct
import sys
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from assl_lightning.data.decoding import ImageFormat, decode
from assl_lightning.data.folders import SUFFIXES, ImageFiles
from assl_lightning.data.image_table import (
    ImageTable,
    hold_out,
    read_folder,
    read_image_folder,
    read_labels,
    read_manifest,
)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def labels_of(table: ImageTable) -> dict[str, str | None]:
    names = [None if label < 0 else table.class_names[label] for label in table.labels.tolist()]
    return dict(zip(table.sample_ids, names, strict=True))


# --- folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_is_all_its_images_by_their_paths_without_labels(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a/2.JPG", "a/10.jpeg", "a/deep/er/x y.webp", "ä.tif")
    table = read_folder(tmp_path, ["ok", "dent"])

    assert table.sample_ids == ("a/10.jpeg", "a/2.JPG", "a/deep/er/x y.webp", "b.png", "ä.tif")
    assert table.paths == tuple(tmp_path / name for name in table.sample_ids)
    assert (table.labels.tolist(), table.class_names) == ([-1] * 5, ("ok", "dent"))
    assert table.groups == table.sample_ids


def test_what_is_hidden_is_passed_over_and_what_is_no_image_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "a.png", ".b.png", ".trash/c.png", "notes.txt", "more.txt", "d.heic", "README")
    with caplog.at_level(logging.INFO):
        table = read_folder(tmp_path, [])

    assert table.sample_ids == ("a.png",)
    assert table.passed_over == {".heic": 1, ".txt": 2, "no suffix": 1}
    assert caplog.messages == [
        f"{tmp_path}: files that are no images by their names are passed over: 1 × .heic, 2 × .txt, 1 × no suffix"
    ]


def test_a_directory_without_images_is_refused_with_what_it_has(tmp_path: Path) -> None:
    touch(tmp_path, "a.heic")
    with pytest.raises(ValueError, match=re.escape("must have image files in it (.apng, .avif, .bmp,")) as caught:
        read_folder(tmp_path, [])
    assert str(caught.value).endswith("; it has 1 × .heic; save .heic as JPEG or PNG first")
    with pytest.raises(FileNotFoundError, match="nowhere must be a directory of images; there is no such directory"):
        read_folder(tmp_path / "nowhere", [])


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_what_an_image_may_be_called_is_what_pillow_reads(tmp_path: Path, suffix: str) -> None:
    if suffix == ".avif" and "avif" not in features.get_supported():
        pytest.skip("Pillow < 11.3 reads no AVIF")
    kind = Image.registered_extensions()[suffix]
    file = BytesIO()
    if kind in Image.SAVE:
        Image.new("RGB", (4, 4), (9, 8, 7)).save(file, kind)
    else:
        assert kind == "QOI", "which Pillow < 12 reads and does not write: a header, one pixel, and a run of the others"
        file.write(
            b"qoif" + struct.pack(">IIBB", 4, 4, 3, 0) + b"\xfe\x09\x08\x07" + bytes([0xC0 | 14]) + bytes(7) + b"\1"
        )
    (tmp_path / f"a{suffix.upper()}").write_bytes(file.getvalue())
    (path,) = read_folder(tmp_path, []).paths
    assert not isinstance(decode(path, ImageFormat((4, 4), 3)), str)


def test_directories_that_are_links_are_gone_into_but_not_round_and_round(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "a.png")
    touch(tmp_path / "root", "b.png").joinpath("link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "again").symlink_to(tmp_path / "elsewhere")
    assert read_folder(tmp_path / "root", []).sample_ids == ("again/a.png", "b.png", "link/a.png")

    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "root")
    with pytest.raises(ValueError, match="is a link that leads back to a directory above it; remove the link"):
        read_folder(tmp_path / "root", [])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are Unicode")
def test_a_name_that_no_table_could_hold_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(ValueError, match=re.escape(r"one thing is wrong: 'caf\udce9.png'")):
        read_folder(tmp_path, [])


def test_an_image_folder_has_its_first_directories_as_classes_in_their_order(tmp_path: Path) -> None:
    touch(tmp_path, "dent/1.png", "dent/sub/2.png", "ok/3.png")
    table = read_image_folder(tmp_path)
    assert table.class_names == ("dent", "ok")
    assert labels_of(table) == {"dent/1.png": "dent", "dent/sub/2.png": "dent", "ok/3.png": "ok"}

    given = read_image_folder(tmp_path, ["ok", "scratch", "dent"])
    assert given.class_names == ("ok", "scratch", "dent")
    assert given.labels.tolist() == [2, 2, 0]


def test_an_image_without_a_class_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "loose.png", "dnet/1.png", "dnet/2.png", "ok/3.png")
    with pytest.raises(ValueError, match="must have one directory for each of its classes") as caught:
        read_image_folder(tmp_path, ["ok", "dent"])
    assert str(caught.value).endswith(
        "2 things are wrong: loose.png is in no class's directory; "
        "dnet/ (2 images) is not among the classes (did you mean 'dent'?)"
    )
    with pytest.raises(ValueError, match="class_names must be distinct; one thing is wrong: ok is there 2 times"):
        read_image_folder(tmp_path, ["ok", "ok"])


def test_parts_of_a_data_set_are_no_classes_unless_they_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/1.png", "test/cat/2.png")
    with pytest.raises(ValueError, match=r"test/ and train/ are called as the parts of a data set are: give") as caught:
        read_image_folder(tmp_path)
    assert str(caught.value).endswith("say so with data.source.class_names=[test,train]")
    assert read_image_folder(tmp_path, ["test", "train"]).labels.tolist() == [0, 1]
    touch(tmp_path, "bus/3.png")
    assert read_image_folder(tmp_path).class_names == ("bus", "test", "train")


COMPOSED, DECOMPOSED = "m\u00fcll", "mu\u0308ll"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files have one Unicode form")
def test_directories_that_differ_in_their_unicode_form_alone_are_one_class(tmp_path: Path) -> None:
    touch(tmp_path, f"{DECOMPOSED}/1.png", "ok/2.png")
    assert read_image_folder(tmp_path).class_names == (DECOMPOSED, "ok")
    assert read_image_folder(tmp_path, ["ok", COMPOSED]).labels.tolist() == [1, 0]
    touch(tmp_path, f"{COMPOSED}/3.png")
    both = read_image_folder(tmp_path)
    assert (set(both.class_names), both.labels.tolist()) == ({COMPOSED, "ok"}, [0, 0, 1])


def test_the_order_on_the_disk_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *(f"{name}/{number}.png" for name in "cab" for number in range(7)))
    expected = read_image_folder(tmp_path).sample_ids
    listed = os.scandir

    class Shuffled(list[os.DirEntry[str]]):
        def __enter__(self) -> Shuffled:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def __next__(self) -> os.DirEntry[str]:
            if not self:
                raise StopIteration
            return self.pop(random.Random(len(self)).randrange(len(self)))

    monkeypatch.setattr(os, "scandir", lambda path: Shuffled(listed(path)))
    first = next(iter(os.walk(tmp_path)))
    assert first[1] != sorted(first[1]), "the patch is felt"
    assert read_image_folder(tmp_path).sample_ids == expected


# --- manifests -------------------------------------------------------------------------------------------------------


def test_a_manifest_has_names_labels_splits_and_groups(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "sub/b.png", "c.png")
    elsewhere = touch(tmp_path / "elsewhere", "d.png") / "d.png"
    table = read_manifest(
        write(
            tmp_path / "images.csv",
            "label,sample_id,split,path,group\n"
            "ok,one,,a.png,p\n"
            "dent,two,pool,sub/b.png,p\n"
            f',three,,"{elsewhere}",\n'
            "\n"
            " ok , four,test,c.png,\n",
        )
    )

    assert labels_of(table) == {"one": "ok", "two": "dent", "three": None, "four": "ok"}
    assert table.paths == (tmp_path / "a.png", tmp_path / "sub/b.png", elsewhere, tmp_path / "c.png")
    assert table.splits == ("", "pool", "", "test")
    assert table.groups == ("p", "p", "three", "four")
    assert table.class_names == ("dent", "ok")


def test_paths_begin_where_they_are_said_to(tmp_path: Path) -> None:
    touch(tmp_path / "photos", "a.png")
    manifest = write(tmp_path / "images.csv", "path\na.png\n")
    assert read_manifest(manifest, tmp_path / "photos").paths == (tmp_path / "photos" / "a.png",)
    with pytest.raises(ValueError, match="there is no such file"):
        read_manifest(manifest)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_excel_and_windows_write_is_read(tmp_path: Path, encoding: str, end: str) -> None:
    touch(tmp_path, "ä, b.png", "c.png")
    manifest = write(tmp_path / "t.csv", end.join(["path,label", '"ä, b.png",gut', "c.png,schön", ""]), encoding)
    assert labels_of(read_manifest(manifest)) == {"ä, b.png": "gut", "c.png": "schön"}


def test_a_table_without_ids_has_its_paths_as_ids(tmp_path: Path) -> None:
    touch(tmp_path, "sub/b.png", "a.png")
    table = read_manifest(write(tmp_path / "t.csv", "path\nsub/b.png\na.png\n"))
    assert table.sample_ids == ("sub/b.png", "a.png"), "in the table's order"


def test_columns_that_are_not_used_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a.png")
    with caplog.at_level(logging.INFO):
        read_manifest(write(tmp_path / "t.csv", "path,camera,weather\na.png,1,rain\n"))
    assert caplog.messages == [f"{tmp_path / 't.csv'}: columns that are not used: camera, weather"]


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            "file,label\na.png,ok\n",
            [
                "t.csv, line 1: the column must be path, and may be sample_id, label, status, split, group; "
                "path missing, there is 'file', 'label'"
            ],
        ),
        ("path|label\na.png|ok\n", ["path missing, there is 'path|label'"]),
        ("", ["t.csv must begin with a header, such as path; it is empty"]),
        ("path,lable\na.png,ok\n", ["it has 'lable' (did you mean 'label'?)"]),
        ("path,path\na.png,a.png\n", ["path is there 2 times"]),
        ("path\n", ["it has a header and nothing below it"]),
        ("path,label\na.png\n", ["one thing is wrong: line 2: a line must have 2 cells as the header has; it has 1"]),
        ("path,label\na.png,ok,ok\n", ["line 2: a line must have 2 cells as the header has; it has 3"]),
        ("path,label\n,ok\n", ["one thing is wrong: line 2 has no path"]),
        ("path,label\n\n\nx.png,ok\n", ["line 4 names ", "x.png, and there is no such file"]),
        ("path\na.png\nb.png\na.png\n", ["line 4 has the sample_id a.png of line 2"]),
        ("sample_id,path\n1,a.png\n1,b.png\n", ["line 3 has the sample_id 1 of line 2"]),
        ("sample_id,path\n1,a.png\n2,./a.png\n", ["line 3 has the path ", "a.png of line 2"]),
        (
            "path,label\na.png,dnet\n",
            ["line 2 has the label dnet, which is not among the classes (did you mean 'dent'?)"],
        ),
        ("path,split\na.png,train\n", ["line 2 has the split train, which must be pool, test or empty"]),
        (
            "path,split,group\na.png,pool,p\nb.png,test,p\n",
            ["line 3 has another split than line 2, of the same group p"],
        ),
        (
            'path,label\n"a.png,ok\nb.png,ok\n',
            ["line 2: the file cannot be read from here on (unexpected end of data); close the quotes"],
        ),
        ('sample_id,path\n"a\nb",a.png\nc,x.png\n', ["one thing is wrong: line 4 names "]),
    ],
)
def test_what_is_wrong_with_a_manifest_is_said_by_its_line(tmp_path: Path, text: str, messages: list[str]) -> None:
    touch(tmp_path, "a.png", "b.png")
    with pytest.raises(ValueError, match=r"t\.csv(, line 1: the column)? must ") as caught:
        read_manifest(write(tmp_path / "t.csv", text), class_names=["ok", "dent"])
    assert [message for message in messages if message not in str(caught.value)] == [], caught.value


def test_all_that_is_wrong_is_said_at_once_and_ten_of_it_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    lines = [f"{number},x{number}.png,ok,pool" for number in range(11)]
    manifest = write(tmp_path / "t.csv", "\n".join(["sample_id,path,label,split", "a,a.png,no,maybe", *lines]))
    with pytest.raises(
        ValueError, match=r"t\.csv must be a table of images; 13 things are wrong: line 2 has"
    ) as caught:
        read_manifest(manifest, class_names=["ok", "dent"])
    assert str(caught.value).count(" line ") == 10
    assert str(caught.value).endswith("x7.png, and there is no such file; and 3 more")


def test_a_line_may_name_a_link_to_nothing_but_no_directory(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png/c.png").joinpath("link.png").symlink_to("/not/mounted/a.png")
    table = read_manifest(write(tmp_path / "images.csv", "path\na.png\nlink.png\n"))
    assert table.paths[1] == tmp_path / "link.png", "which decoding tells, and the run may leave out"
    with pytest.raises(ValueError, match=r"one thing is wrong: line 2 names .*/b\.png, which is a directory$"):
        read_manifest(write(tmp_path / "images.csv", "path\nb.png\n"))


def test_a_manifest_in_another_encoding_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "ä.png")
    with pytest.raises(ValueError, match=r"line 2: the bytes must be UTF-8; line 2 has 0xe4. Save the file as UTF-8$"):
        read_manifest(write(tmp_path / "t.csv", "path\nä.png\n", "latin-1"))
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_manifest(tmp_path / "other.csv")


def test_without_pyarrow_a_parquet_file_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'pyarrow>=15', or save the table as CSV")):
        read_manifest(write(tmp_path / "t.parquet", "PAR1"))


def test_a_parquet_file_is_the_same_table_as_a_csv_file(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    touch(tmp_path, "a.png", "b.png", "c.png")
    columns: dict[str, list[Any]] = {
        "sample_id": [1, 2, 3],
        "path": ["a.png", "b.png", "c.png"],
        "label": ["ok", None, "dent"],
    }
    parquet.write_table(pyarrow.table({**columns, "camera": [1.5, 2.5, 3.5]}), tmp_path / "t.parquet")
    table = read_manifest(tmp_path / "t.parquet")

    assert labels_of(table) == {"1": "ok", "2": None, "3": "dent"}
    assert table.paths == tuple(tmp_path / name for name in columns["path"])
    (tmp_path / "b.png").unlink()
    with pytest.raises(ValueError, match=r"row 2 names .*b\.png, and there is no such file"):
        read_manifest(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="must be a Parquet file"):
        read_manifest(write(tmp_path / "u.parquet", "nothing of the kind"))


def test_what_is_missing_is_missing_in_csv_and_in_parquet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, *(f"{number}.png" for number in range(6)))
    words = ["", "nan", "NaN", "NaT", "<NA>", "ok"]
    lines = [f"{number}.png,{word},{word},{word}" for number, word in enumerate(words)]
    with caplog.at_level(logging.INFO):
        table = read_manifest(write(tmp_path / "t.csv", "\n".join(["path,label,group,sample_id", *lines])))
    assert table.class_names == ("ok",)
    assert table.labels.tolist() == [-1] * 5 + [0]
    assert table.sample_ids == ("0.png", "1.png", "2.png", "3.png", "4.png", "ok")
    assert table.groups == table.sample_ids
    assert "t.csv: cells that say nan, NaN, NaT or <NA> are taken for empty: 12" in caplog.text
    assert read_manifest(tmp_path / "t.csv", class_names=["nan", "ok"]).labels.tolist() == [-1, 0, -1, -1, -1, 1]

    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    nan = float("nan")
    columns = {
        "path": [f"{number}.png" for number in range(6)],
        "label": pyarrow.array([0.0, 1.0, nan, None, nan, 1.0]),
        "group": pyarrow.array([7.0, 7.0, nan, nan, None, nan]),
        "sample_id": pyarrow.array([10.0, 11.0, nan, nan, None, 15.0]),
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    table = read_manifest(tmp_path / "t.parquet")
    assert (table.class_names, table.labels.tolist()) == (("0", "1"), [0, 1, -1, -1, -1, 1])
    assert table.sample_ids == ("10", "11", "2.png", "3.png", "4.png", "15")
    assert table.groups == ("7", "7", "2.png", "3.png", "4.png", "15")


def test_a_column_of_lists_is_refused_by_its_row(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    touch(tmp_path, "a.png", "b.png")
    columns = {"path": ["a.png", "b.png"], "label": [["ok"], None]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"one thing is wrong: row 1: label must be a text; got \['ok'\]"):
        read_manifest(tmp_path / "t.parquet")


def test_a_common_group_that_may_stand_for_a_missing_one_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png")
    read_manifest(write(tmp_path / "t.csv", "path,group\na.png,NA\nb.png,NA\nc.png,none\n"))
    (told,) = caplog.messages
    assert told.endswith("t.csv: 2 images are one group, NA; leave the cell empty where an image stands alone")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("img\\a.png", "its directories are parted by slashes, not by backslashes"),
        ("C:\\data\\img\\a.png", "it begins with other directories, as on another machine or from another place"),
        ("/home/me/img/a.png", "it begins with other directories, as on another machine or from another place"),
        ("file:///data/img/a.png", "it begins with other directories, as on another machine or from another place"),
        ("img/A.PNG", "its letters are the same but for their case, which counts"),
        ("a.png", "its directories are missing"),
    ],
)
def test_a_path_in_another_spelling_is_refused_with_the_file_that_it_may_be(
    tmp_path: Path, path: str, why: str
) -> None:
    if (touch(tmp_path, "img/a.png") / path).exists():
        pytest.skip("a file system that does not tell upper from lower case")
    with pytest.raises(ValueError, match=re.escape(f"no such file (did you mean 'img/a.png'? {why})")):
        read_manifest(write(tmp_path / "t.csv", f"path\n{path}\n"))


def test_a_directory_and_a_file_in_another_spelling_are_refused_with_the_nearest(tmp_path: Path) -> None:
    touch(tmp_path, "photos/new/a.png", "labels.csv")
    for read, path, meant in (
        (lambda path: read_folder(path, []), "phtos/new", "'photos'"),
        (read_image_folder, "photos/neww", "'new'"),
        (read_manifest, "labls.csv", "'labels.csv'"),
        (lambda path: read_labels(path, read_folder(tmp_path / "photos", [])), "lables.csv", "'labels.csv'"),
    ):
        with pytest.raises(FileNotFoundError, match=rf"there is no such (file|directory) \(did you mean {meant}\?\)$"):
            read(tmp_path / path)


def test_many_missing_files_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFiles, "most_hints", 1)
    touch(tmp_path, "img/a.png", "img/b.png")
    with pytest.raises(
        ValueError, match=r"no such file \(did you mean 'img/a\.png'\?.*b\.png, and there is no such file$"
    ):
        read_manifest(write(tmp_path / "t.csv", "path\na.png\nb.png\n"))


def test_another_number_is_no_other_spelling(tmp_path: Path) -> None:
    touch(tmp_path, "IMG_0001.png")
    with pytest.raises(ValueError, match=r"IMG_0002\.png, and there is no such file$"):
        read_manifest(write(tmp_path / "t.csv", "path\nIMG_0002.png\n"))


@pytest.mark.parametrize(("on_disk", "in_table"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_a_path_in_another_unicode_form_is_the_file(tmp_path: Path, on_disk: str, in_table: str) -> None:
    touch(tmp_path, f"{on_disk}/{on_disk}.png")
    table = read_manifest(write(tmp_path / "t.csv", f"path,label\n{in_table}/{in_table}.png,{in_table}\n"))
    assert table.sample_ids == (f"{in_table}/{in_table}.png",), "as the table has it, wherever the file goes"
    assert Path(str(table.paths[0])).is_file()
    labelled = read_labels(
        write(tmp_path / "l.csv", f"sample_id,label\n{in_table}/{in_table}.png,{in_table}\n"),
        read_folder(tmp_path, []),
        ["ok", on_disk],
    )
    assert labelled.labels.tolist() == [1]


_NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zs", "Zl", "Zp", "Cf")), min_size=1)


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.tuples(_NAMES, st.sampled_from(["", "ok", "dent"])), min_size=1, unique_by=lambda row: row[0]))
def test_what_the_csv_module_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    root = tmp_path_factory.mktemp("images")
    paths = [str(touch(root, f"{number}.png") / f"{number}.png") for number in range(len(rows))]
    with (root / "t.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [("path", "sample_id", "label"), *((path, *row) for path, row in zip(paths, rows, strict=True))]
        )
    table = read_manifest(root / "t.csv", class_names=["ok", "dent"])
    assert labels_of(table) == {name: label or None for name, label in rows}


# --- pool and test ---------------------------------------------------------------------------------------------------


def make_table(labels: list[int], splits: list[str] | None = None, groups: list[str] | None = None) -> ImageTable:
    names = tuple(f"image/{number}" for number in range(len(labels)))
    return ImageTable(
        sample_ids=names,
        paths=tuple(map(Path, names)),
        labels=np.array(labels, dtype=np.int64),
        splits=tuple(splits or [""] * len(labels)),
        groups=tuple(groups or names),
        class_names=("ok", "dent"),
    )


def test_what_says_test_is_the_test_and_the_rest_the_pool() -> None:
    pool, test = hold_out(make_table([0, 1, -1, 1], ["", "test", "", "pool"]), 0.9, 0)
    assert (pool.sample_ids, test.sample_ids) == (("image/0", "image/2", "image/3"), ("image/1",))
    assert (pool.labels.tolist(), test.labels.tolist()) == ([0, -1, 1], [1])


def test_a_drawn_test_set_has_its_share_of_the_labelled_images_and_each_seed_its_own() -> None:
    labels = [-1 if number % 4 == 0 else number % 2 for number in range(4000)]
    pool, test = hold_out(make_table(labels), 0.2, 0)
    assert sorted(pool.sample_ids + test.sample_ids) == sorted(make_table(labels).sample_ids)
    assert int(test.labels.min()) >= 0
    assert len(test) == pytest.approx(0.2 * 3000, abs=4 * (3000 * 0.2 * 0.8) ** 0.5)
    other = hold_out(make_table(labels), 0.2, 1)[1]
    assert len(set(test.sample_ids) & set(other.sample_ids)) < 0.3 * len(test)


@settings(max_examples=25, deadline=None)
@given(labels=st.lists(st.sampled_from([0, 1]), min_size=20, max_size=60), more=st.integers(0, 30))
def test_an_image_stays_in_its_part_when_others_come(labels: list[int], more: int) -> None:
    before, after = hold_out(make_table(labels), 0.5, 3), hold_out(make_table(labels + [0] * more), 0.5, 3)
    for part, larger in zip(before, after, strict=True):
        assert set(part.sample_ids) <= set(larger.sample_ids)


def test_a_group_is_drawn_as_one_and_stays_in_the_pool_where_one_of_it_has_no_label() -> None:
    groups = [f"patient {number // 5}" for number in range(500)]
    labels = [-1 if number == 7 else 0 for number in range(500)]
    pool, test = hold_out(make_table(labels, groups=groups), 0.4, 0)
    assert set(Counter(test.groups).values()) == {5}
    assert set(Counter(pool.groups).values()) == {5}
    moved = next(number for number in range(500) if f"image/{number}" in test.sample_ids)
    labels[moved] = -1
    assert groups[moved] in hold_out(make_table(labels, groups=groups), 0.4, 0)[0].groups


@pytest.mark.parametrize(
    ("table", "fraction", "message"),
    [
        (make_table([0, -1], ["", "test"]), 0.2, "every test image must have a label; one thing is wrong: image/1 has"),
        (make_table([-1, -1]), 0.2, "of the 2 images 0 have a label, and test_fraction=0.2 takes none"),
        (make_table([0, 1], ["pool", "pool"]), 0.2, "of the 2 images 2 have a label, and no line has the split test"),
        (make_table([0, 1], ["test", "test"]), 0.2, "there must be images in the pool; all 2 are for the test"),
        (make_table([0, 1]), 1.0, "test_fraction must be above 0 and below 1, a share of the labelled images; got 1.0"),
    ],
)
def test_what_cannot_be_parted_is_refused(table: ImageTable, fraction: float, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        hold_out(table, fraction, 0)
