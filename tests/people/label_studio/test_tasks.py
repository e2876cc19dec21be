"""A batch becomes tasks and a labelling interface that Label Studio can read."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assl_lightning.people.batch import LabelBatch
from assl_lightning.people.label_studio import tasks as module
from assl_lightning.people.label_studio.tasks import image_urls, label_config, tasks_of, write_tasks
from tests.people.batches import SAMPLE_IDS, a_png, make_batch


def choices_of(config: str) -> list[dict[str, str]]:
    return [choice.attrib for choice in ElementTree.fromstring(config).iter("Choice")]


def test_the_interface_has_a_way_to_say_that_an_image_is_bad() -> None:
    assert label_config(["ok", "dent"]) == (
        "<View>\n"
        '  <Image name="image" value="$image" zoom="true"/>\n'
        '  <Choices name="label" toName="image" choice="single" showInline="true" required="true">\n'
        '    <Choice value="ok" hotkey="1"/>\n'
        '    <Choice value="dent" hotkey="2"/>\n'
        '    <Choice value="bad image" alias="assl:bad" hotkey="0"/>\n'
        "  </Choices>\n"
        "</View>\n"
    )


def test_but_for_that_it_is_the_recorded_one() -> None:
    recorded = ElementTree.parse(Path(__file__).parent / "fixtures" / "label_config.xml").iter()
    *made, bad = ElementTree.fromstring(label_config(["red", "green", "blue"])).iter()
    assert [(tag.tag, tag.attrib) for tag in made] == [(tag.tag, tag.attrib) for tag in recorded]
    assert bad.tag == "Choice"


def test_the_first_nine_classes_have_keys() -> None:
    choices = choices_of(label_config([f"c{n}" for n in range(12)]))
    assert [choice.get("hotkey") for choice in choices] == [*"123456789", None, None, None, "0"]


LETTERS = st.characters(codec="utf-8", exclude_categories=["Cc", "Cn"]) | st.sampled_from("\t\n\r$<&\"'")


@given(st.lists(st.text(LETTERS).filter(lambda name: name != "assl:bad")))
def test_any_name_survives_the_interface(names: list[str]) -> None:
    choices = choices_of(label_config(names))
    assert [choice.get("alias", choice["value"]) for choice in choices[:-1]] == names
    assert not any(choice["value"].partition("$")[2][:1].isidentifier() for choice in choices), "a variable's name"


@pytest.mark.parametrize("name", ["a\x00", "\ud800", "assl:bad"])
def test_a_class_that_cannot_be_written_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="a class must have a name of printable characters other than 'assl:bad'"):
        label_config(["ok", name])


def test_tasks_have_the_batchs_order_and_keys_that_are_texts(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, 3)
    tasks = tasks_of(batch, image_url=lambda sample: f"u/{sample.image}", show_predictions=False)
    assert [task["data"]["sample_id"] for task in tasks] == list(SAMPLE_IDS)
    assert tasks[1] == {
        "data": {"image": "u/0001.png", "sample_id": "sub/b 1.png", "round": "3"},
        "meta": {"run_id": "9f140cb3", "sample_id": "sub/b 1.png", "round": "3"},
    }


def test_predictions_are_sent_on_request_alone_and_always_under_one_version(tmp_path: Path) -> None:
    batch = make_batch(tmp_path)
    batch = replace(batch, samples=(*batch.samples[:3], replace(batch.samples[3], prediction=None)))
    tasks = tasks_of(batch, image_url=lambda sample: "u", show_predictions=True)
    recorded = json.loads((Path(__file__).parent / "fixtures" / "export.json").read_text())
    known = recorded[0]["annotations"][0]["prediction"]["result"][0]
    assert tasks[1]["predictions"] == [
        {"model_version": "assl_lightning", "result": [known | {"value": {"choices": ["dent"]}}]}
    ]
    assert "predictions" not in tasks[3]


def test_files_lie_beside_the_table_and_hold_the_images(tmp_path: Path) -> None:
    batch = make_batch(tmp_path)
    write_tasks(batch, image_url=image_urls(batch), show_predictions=False)
    assert (batch.directory / "label_config.xml").read_text() == label_config(batch.class_names)
    tasks = json.loads((batch.directory / "tasks.json").read_text(encoding="utf-8"))
    kind, _, content = tasks[2]["data"]["image"].partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content) == a_png(40)
    assert not list(batch.directory.glob("*.tmp"))


def test_images_below_a_root_are_served_by_label_studio(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "ü & +")
    address = image_urls(batch, image_root=str(tmp_path))
    image = "%C3%BC%20%26%20%2B/round_00/to_label/images/0001.png"
    assert address(batch.samples[1]) == f"/data/local-files/?d={image}"


def test_originals_are_taken_where_only_they_are_below_the_root(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "run")
    photo = tmp_path / "photos" / "b 1.png"
    photo.parent.mkdir()
    photo.write_bytes(a_png())
    sample = replace(batch.samples[1], path=str(photo))
    assert image_urls(batch, image_root=str(photo.parent))(sample) == "/data/local-files/?d=b%201.png"
    with pytest.raises(ValueError, match="image_root must be a directory above the images") as caught:
        image_urls(batch, image_root=str(photo.parent))(batch.samples[0])
    assert "0000.png, /photos/00123.png is a file below" in str(caught.value)


def test_images_elsewhere_have_their_sample_id_in_the_address(tmp_path: Path) -> None:
    batch = make_batch(tmp_path)
    address = image_urls(batch, image_prefix="https://images.example.org/photos/")
    assert address(batch.samples[1]) == "https://images.example.org/photos/sub/b%201.png"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_root": "/data", "image_prefix": "https://a"}, "image_root and image_prefix exclude each other"),
        ({"image_prefix": "photos"}, "image_prefix must be an address such as .*got 'photos'"),
        (
            {"image_prefix": "https://me:secret@a/b"},
            "image_prefix must be an address .* with no name, .*got 'https://a/b'",
        ),
    ],
)
def test_places_that_are_none_are_refused(tmp_path: Path, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image_urls(make_batch(tmp_path), **arguments)


@pytest.mark.parametrize(
    ("limit", "message"),
    [("_MOST_OF_AN_IMAGE", "0000.png is 0.0; say by image_root"), ("_MOST_OF_A_BATCH", "images are 0; ask for fewer")],
)
def test_images_too_large_for_tasks_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, message: str
) -> None:
    batch: LabelBatch = make_batch(tmp_path)
    limits: dict[str, Any] = {limit: 10}
    monkeypatch.setattr(module, limit, limits[limit])
    with pytest.raises(ValueError, match=message):
        write_tasks(batch, image_url=image_urls(batch), show_predictions=False)
    assert not (batch.directory / "tasks.json").exists()
