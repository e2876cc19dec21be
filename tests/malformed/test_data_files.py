"""Data files that are damaged, of another kind, or a program: each is named, and nothing that it says is run.

Files in the real formats of small data sets, whose sums are those of the damaged files: what a sum would catch at once
is left to the reader behind it. CIFAR
and SVHN are read by torchvision, which runs what a pickle says: there the sum alone stands between, and is tested.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torchvision.datasets import FashionMNIST

from assl_lightning.data.sources.base import PoolSource
from assl_lightning.data.sources.cifar import load_cifar10
from assl_lightning.data.sources.fashion_mnist import load_fashion_mnist
from assl_lightning.data.sources.mini_imagenet import load_mini_imagenet
from assl_lightning.data.sources.svhn import load_svhn
from assl_lightning.data.sources.undecodable import refuse_unreadable
from assl_lightning.data.unpickling import load_plain_pickle
from tests.data.sources.test_cifar import make_cifar10
from tests.data.sources.test_fashion_mnist import NAMES, NOWHERE, make_arrays, make_data_set, pack
from tests.data.sources.test_mini_imagenet import SMALL, make_caches, write_caches, write_tables
from tests.data.sources.test_svhn import make_svhn
from tests.malformed.trees import MADE, Trap, problem_of, refused

EVERYTHING = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

# --- MiniImageNet's tables -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tables") / "mini"
    write_tables(root, size=(2, 2), each=2)
    return root


@pytest.fixture
def mini(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tables, each test's own; the images are the same files."""
    root = tmp_path / "mini"
    root.mkdir()
    for table in tables.glob("*.csv"):
        (root / table.name).write_bytes(table.read_bytes())
    (root / "images").mkdir()
    for image in (tables / "images").iterdir():
        os.link(image, root / "images" / image.name)
    monkeypatch.chdir(tmp_path)
    return root


def load_tables(root: Path) -> PoolSource:
    return load_mini_imagenet(root, images_per_class=2, test_per_class=1)


def line(number: int, text: str) -> Callable[[bytes], bytes]:
    """The table with another line `number`, from 1."""

    def damage(content: bytes) -> bytes:
        lines = content.split(b"\n")
        lines[number - 1] = text.encode()
        return b"\n".join(lines)

    return damage


TABLES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "must begin with the line filename,label; it begins with ''"),
    "empty lines": (lambda _: b"\n\n\n", "must begin with the line filename,label"),
    "no header": (lambda content: content.split(b"\n", 1)[1], "must begin with the line filename,label"),
    "columns in another order": (line(1, "label,filename"), "it begins with 'label,filename'"),
    "a column more": (line(1, "filename,label,split"), "it begins with 'filename,label,split'"),
    "semicolons": (lambda content: content.replace(b",", b";"), "it begins with 'filename;label'"),
    "tabs": (lambda content: content.replace(b",", b"\t"), "must begin with the line filename,label"),
    "UTF-16": (lambda content: content.decode().encode("utf-16"), "cannot be read as a table"),
    "UTF-32": (lambda content: content.decode().encode("utf-32"), "cannot be read as a table"),
    "two marks of byte order": (lambda content: b"\xef\xbb\xbf" * 2 + content, "must begin with the line"),
    "Latin-1": (lambda content: content.replace(b"00000000.jpg", b"\xe9.jpg"), "cannot be read as a table"),
    "zeros": (lambda content: content + bytes(20), "line"),
    "a page of the web": (lambda _: b"<html>404</html>", "must begin with the line"),
    "a pickle": (lambda _: pickle.dumps(Trap()), "cannot be read as a table"),
    "a cell too few": (line(5, "nval0300000000.jpg"), "line 5 must have a filename and a label"),
    "a cell too many": (line(5, "nval0300000000.jpg,nval03,1"), "line 5 must have a filename and a label"),
    "no filename": (line(5, ",nval03"), "line 5 must have a filename and a label; got ',nval03'"),
    "no label": (line(5, "nval0300000000.jpg,"), "line 5 must have a filename and a label"),
    "spaces for a label": (line(5, "nval0300000000.jpg,   "), "line 5 must have a filename and a label"),
    "a quote that is not closed": (line(5, '"nval0300000000.jpg,nval03'), "cannot be read as a table"),
    "an image that is not there": (line(5, "nowhere.jpg,nval03"), "line 5 names nowhere.jpg, which is not in"),
    "an image in another case": (line(5, "NVAL0300000000.JPG,nval03"), "line 5 names NVAL0300000000.JPG"),
    "a path upwards": (line(5, "../../x.png,nval03"), "line 5 names '../../x.png', which must be a file's name"),
    "a path upwards that exists": (line(5, "../images/nval0300000000.jpg,nval03"), "line 5 names '../images/"),
    "an absolute path": (line(5, "/etc/passwd,nval03"), "line 5 names '/etc/passwd', which must be a file's name"),
    "a directory": (line(5, "..,nval03"), "line 5 names '..', which must be a file's name"),
    "the directory itself": (line(5, ".,nval03"), "line 5 names '.', which must be a file's name"),
    "a zero in a name": (line(5, "a\0b.jpg,nval03"), "line"),
    "a name too long": (line(5, "a" * 5000 + ".jpg,nval03"), "line 5 names aaaa"),
    "an image twice": (line(5, "nval0000000000.jpg,nval03"), "twice"),
    "a class more": (line(5, "nval0300000000.jpg,another"), "must have 16 classes"),
    "a class's image missing": (line(5, ""), "it has 1 of nval03"),
    "a class of another split": (
        lambda content: content.replace(b",nval03", b",ntrain03"),
        "has the class ntrain03, which an earlier split has too",
    ),
    "the table of another split": (lambda content: content.replace(b"nval", b"ntrain"), "earlier split"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_none_is_named_with_its_line(mini: Path, name: str) -> None:
    damage, words = TABLES[name]
    table = mini / "val.csv"
    table.write_bytes(damage(table.read_bytes()))
    with refused(mini, str(table), words):
        load_tables(mini)


IMAGES: dict[str, bytes] = {
    "empty": b"",
    "a text": b"no image",
    "a page of the web": b"<html>404</html>",
    "a head of JPEG": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "a head of PNG": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    "a PNG of very many pixels": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02" + bytes(7),
    "a GIF cut short": b"GIF89a\x10\x00\x10\x00\x80",
    "a BMP of no size": b"BM" + bytes(60),
    "a TIFF without a page": b"II*\x00\x08\x00\x00\x00\x00\x00",
    "a pickle": pickle.dumps(Trap()),
    "zeros": bytes(1000),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's, beside the error
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_that_is_none_is_named(mini: Path, name: str) -> None:
    image = mini / "images" / "nval0300000001.jpg"
    image.unlink()
    image.write_bytes(IMAGES[name])
    with refused(mini, str(image), "1 of the pool's 100 images cannot be decoded"):
        refuse_unreadable(load_tables(mini))


@settings(EVERYTHING, max_examples=25)
@given(content=st.binary(max_size=100) | st.text(max_size=60).map(str.encode))
def test_whatever_follows_the_header_of_a_table_is_named(mini: Path, content: bytes) -> None:
    table = mini / "val.csv"
    table.write_bytes(b"filename,label\n" + content)
    with refused(mini, str(table)):
        load_tables(mini)


# --- MiniImageNet's pickles ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("caches") / "mini"
    write_caches(root, make_caches())
    return root


def cache(**changes: Any) -> dict[str, Any]:
    return {**make_caches()["train"], **changes}


OF_A_CACHE: dict[str, tuple[object, str]] = {
    "a trap": (Trap(), "which was not run"),
    "a trap for images": ({"image_data": Trap(), "class_dict": {}}, "which was not run"),
    "a trap for a class": ({"image_data": np.zeros((1, 84, 84, 3), np.uint8), "class_dict": {"a": Trap()}}, "not run"),
    "a trap for a key": ({Trap(): 1}, "which was not run"),
    "nothing": (None, "must hold a dictionary of image_data"),
    "a list": ([1, 2], "must hold a dictionary of image_data"),
    "no classes": ({"image_data": np.zeros((1, 84, 84, 3), np.uint8)}, "must hold a dictionary of image_data"),
    "no images": ({"class_dict": {}}, "must hold a dictionary of image_data"),
    "a list of images": ({"image_data": [1], "class_dict": {}}, "must hold a dictionary of image_data"),
    "a list of classes": ({"image_data": np.zeros(1), "class_dict": []}, "must hold a dictionary of image_data"),
    "images of one number": ({"image_data": np.uint8(3), "class_dict": {}}, "must hold a dictionary of image_data"),
    "images without axes": ({"image_data": np.array(3, np.uint8), "class_dict": {}}, "got () and uint8"),
    "floats": (
        {"image_data": np.zeros((1, 84, 84, 3)), "class_dict": {}},
        "got (1, 84, 84, 3) and float64",
    ),
    "signed": ({"image_data": np.zeros((1, 84, 84, 3), np.int8), "class_dict": {}}, "and int8"),
    "colours first": ({"image_data": np.zeros((1, 3, 84, 84), np.uint8), "class_dict": {}}, "got (1, 3, 84, 84)"),
    "no class": ({"image_data": np.zeros((1, 84, 84, 3), np.uint8), "class_dict": {}}, "must have 64 classes"),
    "rows that are a text": ({"image_data": np.zeros((9, 84, 84, 3), np.uint8), "class_dict": {"a": "012"}}, "['a']"),
    "rows that are nothing": ({"image_data": np.zeros((9, 84, 84, 3), np.uint8), "class_dict": {"a": None}}, "['a']"),
    "rows that are floats": ({"image_data": np.zeros((9, 84, 84, 3), np.uint8), "class_dict": {"a": [0.5]}}, "['a']"),
    "rows of rows": ({"image_data": np.zeros((9, 84, 84, 3), np.uint8), "class_dict": {"a": [[1]]}}, "['a']"),
    "rows of unlike lengths": (
        {"image_data": np.zeros((9, 84, 84, 3), np.uint8), "class_dict": {"a": [[1], [1, 2]]}},
        "must give class_dict['a'] as a list of rows",
    ),
    "rows out of range": ({"image_data": np.zeros((9, 84, 84, 3), np.uint8), "class_dict": {"a": [9]}}, "['a']"),
    "rows below 0": ({"image_data": np.zeros((9, 84, 84, 3), np.uint8), "class_dict": {"a": [-1]}}, "['a']"),
    "rows beyond int64": ({"image_data": np.zeros((9, 84, 84, 3), np.uint8), "class_dict": {"a": [2**70]}}, "['a']"),
    "rows that are true": ({"image_data": np.zeros((9, 84, 84, 3), np.uint8), "class_dict": {"a": [True]}}, "['a']"),
}


@pytest.mark.parametrize("name", OF_A_CACHE)
def test_a_cache_that_is_none_is_named(
    caches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    content, words = OF_A_CACHE[name]
    monkeypatch.chdir(tmp_path)
    for file in caches.iterdir():
        os.link(file, tmp_path / file.name)
    path = tmp_path / "mini-imagenet-cache-train.pkl"
    path.unlink()
    path.write_bytes(pickle.dumps(content))
    with refused(tmp_path, str(path), words):
        load_mini_imagenet(tmp_path, **SMALL)


PICKLES: dict[str, bytes] = {
    **{f"a trap of protocol {protocol}": pickle.dumps(Trap(), protocol) for protocol in range(6)},
    **{
        f"a trap in a list of protocol {protocol}": pickle.dumps([1, {"a": Trap()}], protocol) for protocol in (0, 2, 4)
    },
    "a trap after data": pickle.dumps([1])[:-1] + pickle.dumps(Trap(), 2)[2:],
    "two pickles, cut": pickle.dumps({"a": 1})[:-1],
    "a declared size of an exabyte": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"a.",
    "a declared text of 4 GB": b"\x80\x02X\xff\xff\xff\xffab.",
    "a frame of an exabyte": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.",
    "nested lists": b"]" * 20_000 + b"a" * 19_999 + b".",
    "nested tuples": b")" + b"\x85" * 20_000 + b".",
    "a memo of nothing": b"\x80\x02h\x07.",
    "a persistent name": b"Pname\n.",
    "an extension": b"\x80\x02\x82\xf1.",
    "a buffer from elsewhere": b"\x80\x05\x97.",
    "an unknown protocol": b"\x80\x7fN.",
    "no stop": b"\x80\x02N",
    "only a stop": b".",
    "a mark alone": b"(",
    "gzip": gzip.compress(pickle.dumps([1])),
    "a NumPy file": b"\x93NUMPY\x01\x00v\x00{'descr': '|O'",
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_that_is_damaged_or_a_program_is_named_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data.pkl"
    path.write_bytes(PICKLES[name])
    with refused(tmp_path, str(path)):
        load_plain_pickle(path)


def test_the_traps_are_ones_that_spring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the tests above could not fail."""
    monkeypatch.chdir(tmp_path)
    for name, content in PICKLES.items():
        if "a trap of" in name or "a trap in" in name:
            pickle.loads(content)
            Path(MADE).unlink()


@EVERYTHING
@given(content=st.binary(max_size=60), place=st.floats(0, 1))
def test_a_pickle_with_bytes_put_in_anywhere_is_plain_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, place: float
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = pickle.dumps({"image_data": np.arange(3), "class_dict": {"a": [0, (1, {2})]}})
    cut = int(place * len(whole))
    path = tmp_path / "data.pkl"
    path.write_bytes(whole[:cut] + content + whole[cut:])
    problem = problem_of(lambda: load_plain_pickle(path))
    assert problem is None or problem.startswith(str(path))
    assert [one.name for one in tmp_path.iterdir()] == ["data.pkl"]


# --- CIFAR and SVHN: torchvision reads them, once the published sum holds ---------------------------------------------

OF_BYTES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[:-1],
    "a byte more": lambda content: content + b"\0",
    "another byte": lambda content: content[:50] + bytes([content[50] ^ 1]) + content[51:],
    "a page of the web": lambda content: b"<html>404</html>",
    "a trap": lambda content: pickle.dumps(Trap()),
}
CIFAR_FILES = ["data_batch_1", "data_batch_5", "test_batch", "batches.meta"]


@pytest.mark.parametrize("name", CIFAR_FILES)
@pytest.mark.parametrize("damage", OF_BYTES)
def test_a_file_of_cifar_that_is_not_the_published_one_is_named_and_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: str
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset, _ = make_cifar10(tmp_path)
    path = tmp_path / dataset.base_folder / name
    path.write_bytes(OF_BYTES[damage](path.read_bytes()))
    with refused(tmp_path, f"damaged (their MD5 sum is not the published one): {path}"):
        load_cifar10(tmp_path, download=False, dataset=dataset)


@pytest.mark.parametrize("name", ["train_32x32.mat", "test_32x32.mat"])
@pytest.mark.parametrize("damage", OF_BYTES)
def test_a_file_of_svhn_that_is_not_the_published_one_is_named_and_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: str
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset, _ = make_svhn(tmp_path)
    path = tmp_path / name
    path.write_bytes(OF_BYTES[damage](path.read_bytes()))
    with refused(tmp_path, f"damaged (their MD5 sum is not the published one): {path}"):
        load_svhn(tmp_path, download=False, pool_size=5, dataset=dataset)


# --- Fashion-MNIST ---------------------------------------------------------------------------------------------------


def idx(*header: int, numbers: int = 12) -> bytes:
    kind, axes, *lengths = header
    return gzip.compress(struct.pack(f">HBB{len(lengths)}I", 0, kind, axes, *lengths) + bytes(numbers))


PACKED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "IDX"),
    "no gzip": (b"\x00\x00\x08\x01", "gzip cannot unpack it"),
    "gzip of nothing": (gzip.compress(b""), "must hold unsigned bytes in the IDX format"),
    "gzip cut short": (idx(8, 1, 12)[:-9], "gzip cannot unpack it"),
    "gzip with a wrong sum": (idx(8, 1, 12)[:-8] + bytes(8), "gzip cannot unpack it"),
    "gzip followed by other bytes": (idx(8, 1, 12) + b"more", "gzip cannot unpack it"),
    "another magic": (gzip.compress(b"\x01\x00\x08\x01\x00\x00\x00\x0c" + bytes(12)), "IDX"),
    "floats": (idx(13, 1, 12), "must hold unsigned bytes in the IDX format"),
    "signed": (idx(9, 1, 12), "must hold unsigned bytes in the IDX format"),
    "a number too few": (idx(8, 1, 13), "must hold unsigned bytes in the IDX format"),
    "a number too many": (idx(8, 1, 11), "must hold unsigned bytes in the IDX format"),
    "no axis": (idx(8, 0, numbers=1), "IDX"),
    "very many axes": (gzip.compress(b"\x00\x00\x08\xff" + bytes(12)), "must hold unsigned bytes in the IDX format"),
    "more axes than an array can have": (gzip.compress(b"\x00\x00\x08\xff" + b"\0\0\0\1" * 255 + b"\1"), "IDX"),
    "a size that no memory has": (idx(8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "IDX"),
    "a size that wraps to what is there": (idx(8, 4, 2**16, 2**16, 2**16, 2**16, numbers=0), "IDX"),
    "two axes of labels": (idx(8, 2, 12, 1), "labels"),
    "fewer labels than images": (idx(8, 1, 11, numbers=11), "labels"),
    "more labels than images": (idx(8, 1, 13, numbers=13), "labels"),
    "labels above nine": (gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x0c" + b"\x0a" * 12), "must lie in [0, 10)"),
    "a trap": (pickle.dumps(Trap()), "gzip cannot unpack it"),
    "a packed trap": (gzip.compress(pickle.dumps(Trap())), "must hold unsigned bytes in the IDX format"),
}


def load_packed(root: Path, name: str, content: bytes) -> Callable[[], PoolSource]:
    contents = {one: pack(array) for one, array in make_arrays().items()} | {name: content}
    dataset: type[FashionMNIST] = make_data_set(root / "FashionMNIST" / "raw", contents)
    return lambda: load_fashion_mnist(root, download=False, debian_dir=NOWHERE, dataset=dataset)


@pytest.mark.parametrize("name", PACKED)
def test_a_packed_file_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    content, words = PACKED[name]
    load = load_packed(tmp_path, NAMES[1], content)
    with refused(tmp_path, words):
        load()


IMAGE_SHAPES = [(12,), (12, 784), (12, 28, 28, 1), (12, 32, 32), (11, 28, 28), (0, 28, 28), (12, 0, 28)]


@pytest.mark.parametrize("shape", IMAGE_SHAPES, ids=str)
def test_images_of_another_shape_are_named(tmp_path: Path, shape: tuple[int, ...]) -> None:
    load = load_packed(tmp_path, NAMES[0], pack(np.zeros(shape, np.uint8)))
    with refused(tmp_path, "labels" if shape in ((11, 28, 28), (0, 28, 28)) else "images"):
        load()


@EVERYTHING
@given(place=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
def test_a_byte_that_was_changed_anywhere_in_a_packed_file_is_noticed(place: float, bits: int, tmp_path: Path) -> None:
    whole = {name: pack(array) for name, array in make_arrays().items()}
    content = bytearray(whole[NAMES[1]])
    content[int(place * len(content))] ^= bits
    directory = tmp_path / hashlib.md5(bytes(content)).hexdigest()
    sums = [(name, hashlib.md5(one).hexdigest()) for name, one in whole.items()]
    place_of_files = directory / "FashionMNIST" / "raw"
    place_of_files.mkdir(parents=True, exist_ok=True)
    for name, one in (whole | {NAMES[1]: bytes(content)}).items():
        (place_of_files / name).write_bytes(one)
    dataset = type("FashionMNIST", (FashionMNIST,), {"resources": sums, "mirrors": []})
    with refused(directory, NAMES[1], "damaged"):
        load_fashion_mnist(directory, download=False, debian_dir=NOWHERE, dataset=dataset)
