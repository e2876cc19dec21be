"""A table means the same wherever it is read: beside a folder, as a manifest, and as what people send back."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from assl_lightning.base.run_files import LEDGER
from assl_lightning.data.answers import resolve
from assl_lightning.data.image_table import ImageTable, read_folder, read_labels, read_manifest
from assl_lightning.people.batch import known_classes
from assl_lightning.people.files import read_labels as read_answers
from assl_lightning.people.judging import ingest
from assl_lightning.people.ledger import Ledger
from tests.people.batches import make_batch

CLASSES = ("ok", "dent", "scr\u00e4tch")
ACCENTED = "b\u00fc.png"
SAMPLES = ("a.png", ACCENTED, "c.png", "d.png")
DECOMPOSED = [unicodedata.normalize("NFD", text) for text in (ACCENTED, CLASSES[2])]

HEADER = "sample_id,path,label,status,note\n"
ANSWERS = "sample_id,label,status,annotator,seconds,at,decides\n"

Meaning = Mapping[str, str]
"""Sample id → its label, or "bad"; samples without a label are left out."""


@dataclass(frozen=True)
class Refused:
    """A refusal, whose message has all of the texts."""

    texts: tuple[str, ...]


def refused(*texts: str) -> Refused:
    return Refused(texts)


TABLES: Mapping[str, tuple[str | bytes, Meaning | Refused]] = {
    "commas": (HEADER + "a.png,a.png,ok,,\nc.png,c.png,dent,,x\n", {"a.png": "ok", "c.png": "dent"}),
    "semicolons": (
        (HEADER + "a.png,a.png,ok,,\nc.png,c.png,dent,,x\n").replace(",", ";"),
        {"a.png": "ok", "c.png": "dent"},
    ),
    "tabs": ((HEADER + "a.png,a.png,ok,,\n").replace(",", "\t"), {"a.png": "ok"}),
    "a byte order mark": (("\ufeff" + HEADER + f"{ACCENTED},{ACCENTED},ok,,\n").encode(), {ACCENTED: "ok"}),
    "UTF-16": ((HEADER + f"{ACCENTED},{ACCENTED},{CLASSES[2]},,\n").encode("utf-16"), {ACCENTED: CLASSES[2]}),
    "empty lines and Windows' line ends": (
        ("\n" + HEADER + "\n,,,,\na.png,a.png,ok,,\n\n").replace("\n", "\r\n"),
        {"a.png": "ok"},
    ),
    "quotes": (
        HEADER + '"a.png","a.png","ok",,"one, two\nthree ""four"""\nc.png,c.png,ok,,\n',
        dict.fromkeys(("a.png", "c.png"), "ok"),
    ),
    "verdicts": (
        HEADER + "a.png,a.png,ok,,\nc.png,c.png,,bad,\nd.png,d.png,,skip,\n",
        {"a.png": "ok", "c.png": "bad"},
    ),
    "a label and a verdict": (
        HEADER + "a.png,a.png,ok,,\nc.png,c.png,ok,bad,\nd.png,d.png,ok,skip,\n",
        refused(
            "line 3: either label or status must be empty; got the label 'ok' and the status 'bad'",
            "line 4: either label or status must be empty; got the label 'ok' and the status 'skip'",
        ),
    ),
    "another verdict": (
        HEADER + "a.png,a.png,,done,\n",
        refused("line 2: status must be skip, bad or empty; got 'done'"),
    ),
    "too few and too many cells": (
        HEADER + "a.png,a.png,ok,\nc.png,c.png,ok,,,\n",
        refused("line 2: a line must have 5 cells as the header has; it has 4", "line 3: a line must have 5 cells"),
    ),
    "a column twice": (
        "sample_id,path,label,label\na.png,a.png,ok,dent\n",
        refused("line 1", "label is there 2 times"),
    ),
    "a column misspelt": (
        "sample_id,path,label,Status\na.png,a.png,,bad\n",
        refused("line 1", "it has 'Status' (did you mean 'status'?)"),
    ),
    "nothing at all": (b"", refused("must begin with a header, such as ")),
    "other bytes": (
        (HEADER + f"a.png,a.png,ok,,\n{ACCENTED},{ACCENTED},ok,,\n").encode("latin-1"),
        refused("line 3: the bytes must be UTF-8; line 3 has 0xfc"),
    ),
    "zero bytes": ((HEADER + "a.png,a.png,ok,,\n").encode("utf-16-le"), refused("line 1: a text has no zero bytes")),
    "a quote without an end": (
        HEADER + 'a.png,a.png,ok,,\nc.png,c.png,"ok,,\n',
        refused("line 3: the file cannot be read from here on"),
    ),
    "what programs write for nothing": (
        HEADER + "a.png,a.png,NaN,<NA>,nan\nc.png,c.png,dent,NaN,\nd.png,d.png,nan,skip,\n",
        {"c.png": "dent"},
    ),
    "spaces around": (HEADER + " a.png , a.png ,\tok , ,\nc.png,c.png, , bad,\n", {"a.png": "ok", "c.png": "bad"}),
    "another Unicode form": (
        HEADER + f"{DECOMPOSED[0]},{DECOMPOSED[0]},{DECOMPOSED[1]},,\n",
        {ACCENTED: CLASSES[2]},
    ),
    "no class": (HEADER + "a.png,a.png,dnet,,\n", refused("line 2", "dnet", "(did you mean 'dent'?)")),
    "no class, but what programs write for nothing": (
        HEADER + "a.png,a.png,NA,,\n",
        refused("line 2", "NA", "where the class is not known, leave the cell empty"),
    ),
    "no sample": ("sample_id,label\nA.png,ok\n", refused("line 2", "A.png", "(did you mean 'a.png'?")),
    "no sample, and nothing said of it": (
        "sample_id,label\nz.png,\na.png,ok\n,,\n".replace(",,", ","),
        {"a.png": "ok"},
    ),
    "an answer without a sample": ("sample_id,label\n,ok\n", refused("line 2: the answer 'ok' needs a sample_id")),
    "no column of labels": ("sample_id,class\na.png,ok\n", refused("line 1", "label missing")),
    "a header alone": ("sample_id,label\n", {}),
    "a line twice": ("sample_id,label\na.png,ok\nc.png,dent\na.png,ok\n", {"a.png": "ok", "c.png": "dent"}),
    "two labels": (
        "sample_id,label\na.png,ok\na.png,dent\n",
        refused("line 3: ", "'dent' of 'a.png', and 'ok' in ", "line 2; leave one of them"),
    ),
    "two people": (
        ANSWERS + "a.png,ok,,Ann,,,\na.png,dent,,Bo,,,\n",
        refused("line 3: 'Bo' says 'dent' of 'a.png', but 'Ann' 'ok' ("),
    ),
    "two people, one of whom does not know": (ANSWERS + "a.png,ok,,Ann,,,\na.png,,skip,Bo,,,\n", {"a.png": "ok"}),
    "two people and a decision": (
        ANSWERS + "a.png,ok,,Ann,,,\na.png,dent,,Bo,,,\na.png,,bad,Ann,,,yes\n",
        {"a.png": "bad"},
    ),
    "a second thought": (
        ANSWERS + "a.png,ok,,Ann,2,2026-01-31T14:05:00+02:00,\na.png,dent,,Ann,2,2026-01-31T13:05:00Z,\n",
        {"a.png": "dent"},
    ),
    "no duration, time or decision": (
        ANSWERS + "a.png,ok,,,fast,,\nc.png,ok,,,,yesterday,\nd.png,ok,,,,,maybe\n",
        refused("line 2: seconds must be", "line 3: at must be", "line 4: decides must be"),
    ),
}


WITH_PATHS = [name for name, (content, _) in TABLES.items() if "path" in str(content).replace("\\x00", "")]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    directory = tmp_path / "photos"
    directory.mkdir()
    for name in SAMPLES:
        (directory / name).touch()
    return directory


def labels_of(table: ImageTable) -> dict[str, str]:
    names = (unicodedata.normalize("NFC", name) for name in table.sample_ids)
    labels = zip(names, table.labels.tolist(), strict=True)
    return {name: table.class_names[label] for name, label in labels if label >= 0}


def read_beside_a_folder(path: Path, photos: Path) -> Meaning:
    table = read_labels(path, read_folder(photos, CLASSES), CLASSES)
    return labels_of(table) | dict.fromkeys(set(SAMPLES) - set(table.sample_ids), "bad")


def read_as_a_manifest(path: Path, photos: Path) -> Meaning:
    """The meaning, but for bad images: a manifest without them is one that never named them."""
    return labels_of(read_manifest(path, photos, CLASSES))


def read_from_people(path: Path, photos: Path) -> Meaning:
    batch = make_batch(photos.with_name("run"), sample_ids=SAMPLES, class_names=CLASSES)
    ingest(batch.run_dir, read_answers(path, class_names=known_classes([batch])))
    resolved = resolve(Ledger(batch.run_dir / LEDGER).active_answers(), "error")
    return {name: answer.label or answer.kind for name, answer in resolved.items() if answer.kind != "skip"}


def check(
    read: Callable[[Path, Path], Meaning], photos: Path, content: str | bytes, expected: Meaning | Refused
) -> None:
    path = photos.with_name("labels.csv")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if isinstance(expected, Refused):
        with pytest.raises(ValueError, match=r"labels\.csv") as caught:
            read(path, photos)
        assert [text for text in expected.texts if text not in str(caught.value)] == [], caught.value
    else:
        assert read(path, photos) == expected


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("read", [read_beside_a_folder, read_from_people])
def test_a_table_of_labels_means_the_same_beside_a_folder_and_from_people(
    read: Callable[[Path, Path], Meaning], name: str, photos: Path
) -> None:
    check(read, photos, *TABLES[name])


@pytest.mark.parametrize("name", WITH_PATHS)
def test_labels_in_a_table_of_images_mean_the_same(name: str, photos: Path) -> None:
    content, expected = TABLES[name]
    if not isinstance(expected, Refused):
        expected = {sample: label for sample, label in expected.items() if label != "bad"}
    check(read_as_a_manifest, photos, content, expected)


def test_a_bad_image_is_left_out_of_a_table_of_images_and_a_skipped_one_is_not(photos: Path) -> None:
    content, _ = TABLES["verdicts"]
    assert isinstance(content, str)
    path = photos.with_name("images.csv")
    path.write_text(content)
    table = read_manifest(path, photos)
    assert (table.sample_ids, table.labels.tolist()) == (("a.png", "d.png"), [0, -1])
