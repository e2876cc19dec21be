"""Data that have moved: which paths may be others when a run goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from assl_lightning.config.build import make_settings
from assl_lightning.config.schema import Config
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.moving import in_one_spelling, moved_paths
from assl_lightning.loop.records import read_config
from tests.stripes import make_source

DATA = {"data": {"root": "here", "source": {"root": "here", "manifest": "a.csv"}}, "network": {"weights": "w.pth"}}
KEYS = {"data.root", "data.source.root", "data.source.manifest"}


def moved(before: dict[str, str], now: dict[str, str]) -> set[str]:
    return set(moved_paths(DATA | {"contents": before}, DATA | {"contents": now}))


def test_samples_that_have_names_may_lie_anywhere_and_others_where_the_digest_is_the_same() -> None:
    assert moved({}, {}) == KEYS
    assert moved({"data": "1"}, {"data": "1"}) == KEYS
    for before, now in (({"data": "1"}, {"data": "2"}), ({}, {"data": "1"}), ({"data": "1"}, {})):
        assert moved(before, now) == set()


def test_weights_may_lie_elsewhere_where_their_digest_is_the_same() -> None:
    assert moved({"network.weights": "1"}, {"network.weights": "1"}) == KEYS | {"network.weights"}
    assert moved({"network.weights": "1"}, {"network.weights": "2"}) == KEYS
    assert moved({}, {"network.weights": "1"}) == KEYS


@pytest.mark.parametrize("spelling", ["photos", "./photos", "photos/", ".//photos/."])
def test_a_path_has_one_spelling(spelling: str) -> None:
    assert in_one_spelling({"data": {"root": spelling, "test_root": None}, "name": "./a"}) == {
        "data": {"root": "photos", "test_root": None},
        "name": "./a",
    }


@pytest.mark.parametrize(
    ("now", "noted"),
    [("./photos/", []), ("/mnt/photos", ["data.root was 'photos', now '/mnt/photos'"])],
)
def test_a_run_goes_on_where_its_data_lie_and_notes_it(tmp_path: Path, now: str, noted: list[str]) -> None:
    directory = RunDirectory(tmp_path / "run")
    for root in ("photos", now):
        config = {"rounds": 1, "data": {"root": root}}
        directory.open(config)
        directory.config.note_changes(config)
    written = read_config(tmp_path / "run")
    changes = [line for note in written["history"].get("changes", []) for line in note["changes"]]
    assert changes == noted
    assert written["data"]["root"] == (now if noted else "photos")


def test_what_a_strategy_keeps_below_a_runs_directory_moves_with_it(tmp_path: Path) -> None:
    def config(run_dir: str, kept: str) -> dict[str, Any]:
        return {"rounds": 1, "run_dir": run_dir, "acquisition": {"strategy": {"directory": kept}}}

    directory = RunDirectory(tmp_path / "run")
    directory.open(config("runs/a", "runs/a/kept"))
    directory.open(config("/mnt/b", "/mnt/b/kept"))
    for wrong in ("/mnt/b/other", "runs/a/kept"):
        with pytest.raises(ValueError, match=r"another configuration \(acquisition\.strategy\.directory was"):
            directory.open(config("/mnt/b", wrong))


@pytest.mark.parametrize(
    ("run_dir", "kept"), [("runs/a", "runs/a/kept"), ("runs/a/", "runs/a//kept"), ("~/a", "~/a/kept")]
)
def test_a_runs_directory_may_be_spelled_otherwise(run_dir: str, kept: str, tmp_path: Path) -> None:
    def config(run_dir: str, kept: str) -> dict[str, Any]:
        return {"rounds": 1, "run_dir": run_dir, "acquisition": {"strategy": {"directory": kept}}}

    directory = RunDirectory(tmp_path / "run")
    directory.open(config("./runs/a", "./runs/a/kept"))
    directory.open(config(run_dir, kept))


def test_data_without_names_that_are_others_elsewhere_are_refused(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.open({"rounds": 1, "data": {"root": "a"}, "contents": {"data": "1"}})
    directory.open({"rounds": 1, "data": {"root": "b"}, "contents": {"data": "1"}})
    with pytest.raises(ValueError, match=r"another configuration \(data\.root was 'a', now 'b'\)"):
        directory.open({"rounds": 1, "data": {"root": "b"}, "contents": {"data": "2"}})


def test_a_digest_is_of_classes_labels_and_size_and_not_of_pixels() -> None:
    source = make_source()
    other = source.hidden_labels.roll(1)
    assert isinstance(source.pool_images, torch.Tensor)
    assert replace(source, pool_images=255 - source.pool_images).digest() == source.digest()
    for changed in (
        replace(source, hidden_labels=other),
        replace(source, class_names=source.class_names[::-1]),
        source.take(torch.arange(len(other) - 1)),
    ):
        assert changed.digest() != source.digest()


def test_a_run_writes_down_the_digests_of_what_has_no_names(tmp_path: Path, compose_run: Callable[..., Config]) -> None:
    config, source = compose_run(), make_source()
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"x" * (1 << 21))
    network: dict[str, Any] = {**config.network, "weights": str(weights)}
    found = make_settings(replace(config, network=network), source).config["contents"]
    assert found == {"data": source.digest(), "network.weights": hashlib.sha256(weights.read_bytes()).hexdigest()}
    named = replace(source, paths=tuple(Path(name) for name in source.sample_ids))
    settings = make_settings(config, named)
    assert "contents" not in settings.config
    assert settings.config["classes"] == list(source.class_names)  # which the configuration does not name
    data = replace(config.data, source={**config.data.source, "class_names": ["a", "b", "c"]})
    assert "classes" not in make_settings(replace(config, data=data), named).config
