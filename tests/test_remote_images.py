"""Runs whose images are in a store: moto, which speaks S3, or a web server, against the same images on disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from assl_lightning.commands import messages
from assl_lightning.commands.train import main
from assl_lightning.data import remote
from tests.same_run import differences_of_runs

RUN = [
    *("data=image_folder", "data.num_classes=2", "data.image_size=[16,16]", "network.width=4", "rounds=1"),
    *("initial_labels=6", "labels_per_round=4", "algorithm.batch_size=4", "algorithm.mu=2", "warm_up=none"),
    *("steps_per_round=6", "steps_per_epoch=3", "trainer.log_every_n_steps=2", "trainer.accelerator=cpu"),
    *("acquisition=badge", "data.unreadable=exclude", "data.source.images=stream"),
]
IMAGES = 40

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # of a machine with a single core
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),  # Python >= 3.12
    pytest.mark.filterwarnings("ignore:datetime.datetime.utc.*:DeprecationWarning"),  # of botocore and moto
]


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty images of two classes, one of them damaged."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(messages, "set_up_messages", lambda: None)  # process-wide, not ours to change
    generator = np.random.default_rng(0)
    for number in range(IMAGES):
        path = tmp_path / "photos" / ("dent" if number % 2 else "ok") / f"{number:02d} a+b.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(128 + 64 * (number % 2), size=(20, 18, 3), dtype=np.uint8)).save(path)
    (tmp_path / "photos" / "ok" / "10 a+b.png").write_bytes(b"nothing")
    return tmp_path / "photos"


@pytest.fixture
def bucket(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The images in a bucket of a local server that speaks S3."""
    pytest.importorskip("s3fs")
    server_of = pytest.importorskip("moto.server").ThreadedMotoServer
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    server = server_of(port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": f"http://{host}:{port}"})
        store = fsspec.filesystem("s3")
        name = f"bucket-{port}"  # moto keeps those of other servers in this process
        store.mkdir(name)
        store.put(f"{photos}/", f"{name}/2026/photos/", recursive=True)
        yield f"s3://{name}/2026/photos"
    finally:
        server.stop()


REASONS = "unreadable.csv"
"""The one file of a run that has the places of images."""


def run(name: str, root: str, *overrides: str) -> int:
    return main([*RUN, f"run_dir={name}", f"data.root={root}", *overrides])


def test_a_run_over_a_bucket_is_the_same_as_over_the_directory(
    photos: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(fsspec.config.conf, "simplecache", {"cache_storage": str(tmp_path / "copies")})
    assert run("local", "photos", "data.num_workers=0") == 0
    assert run("alone", bucket, "data.num_workers=0") == 0
    assert run("by_two", f"simplecache::{bucket}/", "data.num_workers=2", "data.source.cache=cache") == 0
    for name in ("alone", "by_two"):
        assert list(differences_of_runs(Path("local"), Path(name))) == [REASONS]
    assert len(list((tmp_path / "copies").iterdir())) == IMAGES
    assert sum(path.suffix == ".json" for path in Path("cache").iterdir()) == 2

    assert run("alone", "photos", "rounds=2", "data.num_workers=0") == 0  # goes on with the same images elsewhere
    assert run("local", bucket, "rounds=2", "data.num_workers=1") == 0
    assert list(differences_of_runs(Path("local"), Path("alone"))) == [REASONS]

    capsys.readouterr()
    monkeypatch.setattr(remote, "_WAITS", (0.0,))
    assert run("none", "s3://nobody/photos") == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "s3://nobody/photos must be a folder of images in a store; there is none of that name" in line
    assert not Path("none").exists()


def test_an_object_that_goes_while_a_run_trains_is_named_and_the_run_goes_on_when_it_is_back(
    photos: Path, bucket: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, name = fsspec.filesystem("s3"), "ok/12 a+b.png"
    assert run("whole", bucket, "data.source.cache=cache", "data.num_workers=0") == 0
    list_files = remote.list_files

    def list_then_lose(folder: remote.RemoteFolder) -> list[remote.RemoteFile]:
        found = list_files(folder)
        store.rm_file(f"{bucket}/{name}")
        return found

    with monkeypatch.context() as lost:
        lost.setattr("assl_lightning.data.folders.list_files", list_then_lose)
        capsys.readouterr()
        assert run("lost", bucket, "data.source.cache=cache", "data.num_workers=1") == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert f"{bucket}/{name} (there is no such object any more): an image that could be decoded when the run" in line
    store.put(str(photos / name), f"{bucket}/{name}")
    assert run("lost", bucket, "data.source.cache=cache", "data.num_workers=1") == 0
    assert list(differences_of_runs(Path("whole"), Path("lost"))) == []


def test_a_run_over_shards_in_a_bucket_is_the_same_as_over_those_on_the_disk(
    photos: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "tables")
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "downloads")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)  # which means any store
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["ok", "dent"])})
    paths = sorted(path for path in photos.rglob("*.png") if path.name != "10 a+b.png")
    rows = [{"image": str(path), "label": int(path.parent.name == "dent")} for path in paths]
    table = datasets.Dataset.from_list(rows, features=features)
    (tmp_path / "shards").mkdir()
    for number in range(3):
        table.shard(3, number).to_parquet(str(tmp_path / "shards" / f"train-{number}.parquet"))
    fsspec.filesystem("s3").put(f"{tmp_path}/shards/", f"{bucket}/", recursive=True)

    shards = ("data=huggingface", "data.source.path=parquet", "data.source.test_split=null", "data.num_workers=0")
    for name, place in (("local", tmp_path / "shards"), ("stored", bucket)):
        files = f"data.source.data_files={{train: '{place}/train-*.parquet'}}"
        assert main([*RUN[1:], *shards, f"run_dir={name}", files]) == 0
    assert list(differences_of_runs(Path("local"), Path("stored"))) == []


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The directory, served by Python's own web server, whose index pages are the listing."""
    pytest.importorskip("aiohttp")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/photos/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_run_over_a_web_server_is_the_same_as_over_the_directory(site: str) -> None:
    assert run("local", "photos", "data.num_workers=0") == 0
    assert run("web", site, "data.num_workers=1") == 0
    assert list(differences_of_runs(Path("local"), Path("web"))) == [REASONS]
