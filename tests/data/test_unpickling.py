"""Ordinary pickles come back as they were, hostile ones are refused before anything that they name is touched."""

from __future__ import annotations

import copyreg
import os
import pickle
import struct
import subprocess
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from assl_lightning.data.unpickling import load_plain_pickle

PROTOCOLS = range(6)

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text()
    | st.binary()
    | st.binary().map(bytearray)
)
HASHABLE = st.integers() | st.text() | st.binary() | st.tuples(st.text(), st.booleans())
DTYPES = (
    arrays_of.boolean_dtypes()
    | arrays_of.integer_dtypes(endianness="?")
    | arrays_of.unsigned_integer_dtypes(endianness="?")
    | arrays_of.floating_dtypes(endianness="?")
    | arrays_of.complex_number_dtypes(endianness="?")
    | arrays_of.byte_string_dtypes(endianness="?", max_len=5)
    | arrays_of.unicode_string_dtypes(endianness="?", max_len=5)
)
ARRAYS = arrays_of.arrays(DTYPES, arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
PLAIN = st.recursive(
    ATOMS | DTYPES | ARRAYS | ARRAYS.filter(lambda array: array.size).map(lambda array: array.flat[0]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=4)
        | st.sets(HASHABLE, max_size=4)
        | st.frozensets(HASHABLE, max_size=4)
    ),
    max_leaves=8,
)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def assert_equal(found: object, expected: object) -> None:
    """Of the same types all the way down, and equal; a NaN equals a NaN."""
    assert type(found) is type(expected)
    if isinstance(expected, (list, tuple)):
        assert isinstance(found, (list, tuple))
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    elif isinstance(expected, dict):
        assert isinstance(found, dict)
        assert list(found) == list(expected)
        for key in expected:
            assert_equal(found[key], expected[key])
    elif isinstance(expected, (np.ndarray, np.generic)):
        assert isinstance(found, (np.ndarray, np.generic))
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.tobytes() == expected.tobytes()
    elif isinstance(expected, (float, complex)):
        assert repr(found) == repr(expected)
    else:
        assert found == expected


# --- what is read ----------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=PLAIN, protocol=st.sampled_from(PROTOCOLS))
def test_plain_data_comes_back_as_it_was(tmp_path: Path, value: object, protocol: int) -> None:
    path = write(tmp_path / "data.pkl", pickle.dumps(value, protocol))
    assert_equal(load_plain_pickle(path), value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.asfortranarray(np.arange(24, dtype=">i4").reshape(4, 6)),
        np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
        np.arange(24, dtype=np.int16).reshape(4, 6)[::2, ::-1],
        np.empty((0, 84, 84, 3), np.uint8),
        np.array(7, np.int64),
    ],
    ids=["C", "Fortran", "transposed", "strided", "empty", "no axes"],
)
def test_an_array_of_any_layout_comes_back_read_only(tmp_path: Path, array: Any, protocol: int) -> None:
    found = load_plain_pickle(write(tmp_path / "data.pkl", pickle.dumps({"image_data": array}, protocol)))
    np.testing.assert_array_equal(found["image_data"], array, strict=True)
    assert not found["image_data"].flags.writeable


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("ours", "theirs"), [("numpy._core", "numpy.core"), ("numpy.core", "numpy._core")])
def test_numpys_module_goes_by_its_old_and_its_new_name(tmp_path: Path, protocol: int, ours: str, theirs: str) -> None:
    content = pickle.dumps([np.arange(3), np.float32(2)], protocol)
    content = content[:2] + content[11:] if protocol >= 4 else content  # without a frame, which says its own length
    content = replace_name(content, ours, theirs)
    found = load_plain_pickle(write(tmp_path / "data.pkl", content))
    assert_equal(found, [np.arange(3), np.float32(2)])


def replace_name(content: bytes, name: str, replacement: str) -> bytes:
    """Modules as GLOBAL ends them with a line, or as a short text begins with its length."""
    for module in ("multiarray", "numeric"):
        old, new = f"{name}.{module}".encode(), f"{replacement}.{module}".encode()
        content = content.replace(b"c" + old + b"\n", b"c" + new + b"\n")
        content = content.replace(b"\x8c" + bytes([len(old)]) + old, b"\x8c" + bytes([len(new)]) + new)
    return content


PYTHON_2 = {
    0: b"(dp0\nS'image_data'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\n"
    b"tp6\nRp7\n(I1\n(I2\nI2\ntp8\ncnumpy\ndtype\np9\n(S'u1'\np10\nI0\nI1\ntp11\nRp12\n(I3\nS'|'\np13\nNNNI-1\nI-1\n"
    b"I0\ntp14\nbI00\nS'\\x00\\xff\\n\\x80'\np15\ntp16\nbsS'class_dict'\np17\n(dp18\nS'n\\xe9'\np19\n(lp20\n"
    b"I0\naL1L\nassS'other'\np21\nc__builtin__\nset\np22\n((lp23\nI3\natp24\nRp25\ns.",
    2: b"\x80\x02}q\x00(U\nimage_dataq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85"
    b"q\x04U\x01bq\x05\x87q\x06Rq\x07(K\x01K\x02K\x02\x86q\x08cnumpy\ndtype\nq\tU\x02u1q\nK\x00K\x01\x87q\x0bRq\x0c(K\x03"
    b"U\x01|q\rNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0eb\x89T\x04\x00\x00\x00\x00\xff\n\x80q\x0ftq\x10b"
    b"U\nclass_dictq\x11ccollections\nOrderedDict\nq\x12]q\x13]q\x14(U\x02n\xe9q\x15]q\x16(K\x00\x8a\x01\x01eea"
    b"\x85q\x17Rq\x18U\x05otherq\x19c__builtin__\nset\nq\x1a]q\x1bK\x03a\x85q\x1cRq\x1du.",
}


@pytest.mark.parametrize("protocol", PYTHON_2)
def test_a_pickle_of_python_2_is_read_as_latin_1(tmp_path: Path, protocol: int) -> None:
    """Written out by hand, opcode for opcode as Python 2.7 with NumPy 1.16 has them."""
    found = load_plain_pickle(write(tmp_path / "data.pkl", PYTHON_2[protocol]))
    expected = {
        "image_data": np.array([[0, 255], [10, 128]], np.uint8),
        "class_dict": {"né": [0, 1]},
        "other": {3},
    }
    assert_equal(found, expected)


def test_an_ordered_dictionary_is_a_dictionary_in_its_order(tmp_path: Path) -> None:
    for protocol in PROTOCOLS:
        content = pickle.dumps(OrderedDict([("b", np.arange(2)), ("a", np.arange(1))]), protocol)
        assert_equal(load_plain_pickle(write(tmp_path / "d", content)), {"b": np.arange(2), "a": np.arange(1)})


def test_what_is_shared_is_still_shared_and_gone_through_once(tmp_path: Path) -> None:
    """Sixty tuples of the one before, twice, are 2⁶⁰ paths to one array."""
    array = np.arange(3)
    shared: Any = [array, array]
    for _ in range(60):
        shared = (shared, shared)
    found = load_plain_pickle(write(tmp_path / "d", pickle.dumps(shared)))
    assert found[0] is found[1]
    for _ in range(60):
        found = found[0]
    assert found[0] is found[1]
    assert_equal(found[0], array)


def test_a_missing_file_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.pkl"):
        load_plain_pickle(tmp_path / "nothing.pkl")


# --- what is refused -------------------------------------------------------------------------------------------------


class Reduces:
    """Pickles as whatever call it is given."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


class Plain:
    """A class of somebody's, without any harm."""


def call(module: str, name: str, *arguments: object) -> bytes:
    """A pickle of protocol 2 that calls a global by its name."""
    body = pickle.dumps(arguments, 2)[2:-1]
    return b"\x80\x02c" + module.encode() + b"\n" + name.encode() + b"\n" + body + b"R."


def named(module: str, name: str, rest: bytes = b".") -> bytes:
    """A pickle of protocol 4 that looks a name up, which may have dots in it, and goes on."""
    texts = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
    return b"\x80\x04" + texts + b"\x93" + rest


TOUCH = "open('executed', 'w').close()"

NAMES_SOMETHING: dict[str, tuple[bytes, str]] = {
    "os.system": (call("os", "system", "touch executed"), "'os.system'"),
    "posix.system": (pickle.dumps(Reduces(os.system, ("touch executed",))), f"'{os.name}.system'"),
    "a shell": (pickle.dumps(Reduces(subprocess.check_output, (["touch", "executed"],))), "'subprocess.check_output'"),
    "eval": (pickle.dumps(Reduces(eval, (TOUCH,))), "'builtins.eval'"),
    "eval of Python 2": (call("__builtin__", "eval", TOUCH), "'__builtin__.eval'"),
    "exec of protocol 0": (pickle.dumps(Reduces(exec, (TOUCH,)), 0), "'__builtin__.exec'"),
    "getattr": (call("builtins", "getattr", "", "join"), "'builtins.getattr'"),
    "import": (call("builtins", "__import__", "os"), "'builtins.__import__'"),
    "open": (call("io", "open", "executed", "w"), "'io.open'"),
    "a dotted name": (named("builtins", "set.__class__"), "'builtins.set.__class__'"),
    "an attribute of what is admitted": (named("numpy", "ndarray.tofile"), "'numpy.ndarray.tofile'"),
    "numpy.load": (call("numpy", "load", "executed"), "'numpy.load'"),
    "numpy.fromfile": (call("numpy.core.multiarray", "fromfile", "executed"), "'numpy.core.multiarray.fromfile'"),
    "numpy.memmap": (call("numpy", "memmap", "executed", "u1", "w+", 0, (3,)), "'numpy.memmap'"),
    "numpy's shell": (call("numpy.testing._private.utils", "runstring", TOUCH, {}), "runstring'"),
    "frombuffer": (call("numpy._core.multiarray", "frombuffer", b"abc"), "'numpy._core.multiarray.frombuffer'"),
    "any class": (pickle.dumps(Plain()), "Plain'"),
    "any class of protocol 0": (pickle.dumps(Plain(), 0), "'copy_reg._reconstructor'"),
    "a constructor": (call("copyreg", "__newobj__", 1), "'copyreg.__newobj__'"),
    "an old instance": (b"(S'touch executed'\nios\nsystem\n.", "'os.system'"),
    "an old object": (b"(cos\nsystem\nS'touch executed'\no.", "'os.system'"),
    "partial": (call("functools", "partial", 1), "'functools.partial'"),
    "torch's loader": (call("torch.storage", "_load_from_bytes", b""), "'torch.storage._load_from_bytes'"),
    "pickle itself": (call("pickle", "loads", b""), "'pickle.loads'"),
    "deep inside": (
        pickle.dumps({"image_data": [(1, {"a": Reduces(os.system, ("touch executed",))})]}),
        f"'{os.name}.system'",
    ),
    "inside an argument": (pickle.dumps(Reduces(complex, (Reduces(eval, (TOUCH,)), 1.0))), "'builtins.eval'"),
    "a name that is not looked up otherwise": (named("os", "system"), "'os.system'"),
    "a name of two lines": (named("os", "a\nb"), r"'os.a\\nb'"),
    "a long name": (named("os", "x" * 255), r"'os.x{94}\.\.\.'"),
}


@pytest.mark.parametrize("name", NAMES_SOMETHING)
def test_a_pickle_that_names_anything_else_is_refused_by_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    content, refused = NAMES_SOMETHING[name]
    check_refused(tmp_path, monkeypatch, content, rf"it asks for .*{refused}, which was not run; use another file$")


OBJECTS = np.array([1, "a"], dtype=object)
FIELDS = np.zeros(2, [("a", "u1"), ("b", "f4")])
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
ARRAY = RECONSTRUCT + b"(cnumpy\nndarray\n(K\x00tC\x01btR"
UINT8 = (
    b"cnumpy\ndtype\n(X\x02\x00\x00\x00u1\x89\x88tR(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)
FEW_BYTES = b"C\x03abc"

NOT_PLAIN: dict[str, tuple[bytes, str]] = {
    "objects": (pickle.dumps(OBJECTS), "a dtype 'O8', which is not one of plain numbers"),
    "objects of protocol 0": (pickle.dumps(OBJECTS, 0), "a dtype 'O8'"),
    "fields": (pickle.dumps(FIELDS), "a dtype 'V5'"),
    "dates": (pickle.dumps(np.zeros(1, "M8[D]")), "a dtype 'M8'"),
    "an array of another class": (
        RECONSTRUCT + b"(cbuiltins\nset\n(K\x00tC\x01btR.",
        "an array of a class other than numpy.ndarray",
    ),
    "ndarray itself, called": (b"cnumpy\nndarray\n(K\x09tR.", "it makes an array directly"),
    "an address for bytes": (ARRAY + b"(K\x01(K\x03t" + UINT8 + b"\x89](K\x01K\x02etb.", "as one run of bytes"),
    "more than its bytes": (
        ARRAY + b"(K\x01(M\xff\xfft" + UINT8 + b"\x89" + FEW_BYTES + b"tb.",
        r"shape \(65535,\) and dtype uint8 in 3 bytes",
    ),
    "a length below zero": (
        ARRAY + b"(K\x01(J\xff\xff\xff\xffJ\xfd\xff\xff\xfft" + UINT8 + b"\x89" + FEW_BYTES + b"tb.",
        "an array whose shape is not one of lengths",
    ),
    "a length that is a text": (
        ARRAY + b"(K\x01(X\x01\x00\x00\x00at" + UINT8 + b"\x89" + FEW_BYTES + b"tb.",
        "an array whose shape is not one of lengths",
    ),
    "a shape that takes for ever to print": (
        ARRAY + b"(K\x01)" + b"2\x86" * 60 + UINT8 + b"\x89" + FEW_BYTES + b"tb.",
        "an array whose shape is not one of lengths",
    ),
    "a number for a dtype": (ARRAY + b"(K\x01(K\x03tK\x07\x89" + FEW_BYTES + b"tb.", "as one run of bytes"),
    "an array without content": (ARRAY + b".", "a function or an empty array for a value"),
    "a dtype with fields in its state": (
        UINT8[:-2].replace(b"NNN", b"NX\x01\x00\x00\x00a}") + b"tb.",
        "a dtype with fields, units or other parts",
    ),
    "a scalar of objects": (b"cnumpy.core.multiarray\nscalar\n(" + UINT8 + b"]tR.", "a NumPy scalar that is not plain"),
    "a function for a value": (b"cbuiltins\nset\n.", "a function or an empty array for a value"),
    "a function in a list": (b"(lcnumpy\ndtype\na.", "a function or an empty array for a value"),
    "a function that is set": (b"cnumpy\ndtype\n(N}X\x05\x00\x00\x00_makeNstb.", "sets the state of something"),
    "a function with attributes": (b"cnumpy\ndtype\n}X\x05\x00\x00\x00_makeNsb.", "sets the state of something"),
    "another encoding": (call("_codecs", "encode", "executed", "rot13"), "it encodes text as 'rot13'"),
    "a set of a text": (call("builtins", "set", "ab"), "a set that is not given as a list"),
    "a bytearray of a length": (call("builtins", "bytearray", 1 << 40), "a bytearray that is not given as bytes"),
    "a complex of a text": (call("builtins", "complex", "1j", 1.0), "a complex number that is not given as two"),
    "a list in itself": (b"]q\x00h\x00a.", "a list that contains itself"),
    "a tuple in itself": (b"]q\x00(h\x00h\x00tq\x01a0h\x01.", "contains itself"),
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_a_pickle_of_admitted_names_put_together_otherwise_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    content, reason = NOT_PLAIN[name]
    check_refused(tmp_path, monkeypatch, content, reason)


def check_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, reason: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "hostile.pkl", content)
    with pytest.raises(ValueError, match=reason) as caught:
        load_plain_pickle(path)
    message = str(caught.value)
    assert message.startswith(f"{path} must hold plain data and NumPy arrays alone, but it ")
    assert "\n" not in message
    assert [found.name for found in tmp_path.iterdir()] == ["hostile.pkl"]


def test_the_hostile_pickles_are_ones_that_pickle_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the tests above could not fail."""
    monkeypatch.chdir(tmp_path)
    for name in ("os.system", "posix.system", "eval", "eval of Python 2", "exec of protocol 0", "an old instance"):
        pickle.loads(NAMES_SOMETHING[name][0])
        (tmp_path / "executed").unlink()


def test_an_extension_is_refused_even_where_it_was_looked_up_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"\x80\x02\x82\xf0X\x0e\x00\x00\x00touch executed\x85R."
    copyreg.add_extension("os", "system", 0xF0)
    try:
        assert pickle.loads(b"\x80\x02\x82\xf0.") is os.system  # now cached
        check_refused(tmp_path, monkeypatch, content, "it asks for 'os.system'")
    finally:
        copyreg.remove_extension("os", "system", 0xF0)


def test_an_extension_that_stands_for_what_is_admitted_does_not_stay_ours(tmp_path: Path) -> None:
    copyreg.add_extension("builtins", "set", 0xF0)
    try:
        assert load_plain_pickle(write(tmp_path / "d", b"\x80\x02\x82\xf0]\x85R.")) == set()
        assert pickle.loads(b"\x80\x02\x82\xf0.") is set
    finally:
        copyreg.remove_extension("builtins", "set", 0xF0)


def test_nothing_that_a_pickle_can_reach_changes_for_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (*NAMES_SOMETHING.values(), *NOT_PLAIN.values()):
        with pytest.raises(ValueError, match="plain data"):
            load_plain_pickle(write(tmp_path / "hostile.pkl", content[0]))
    value = [np.arange(3), {1, 2}, np.dtype(">f4"), 1j]
    assert_equal(load_plain_pickle(write(tmp_path / "plain.pkl", pickle.dumps(value))), value)


# --- what is damaged -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_that_ends_too_early_is_damaged_wherever_it_ends(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps({"image_data": np.arange(3), "class_dict": {"a": [0, (1, {2})]}, "b": 0.5}, protocol)
    load_plain_pickle(write(tmp_path / "d", content))
    for length in range(len(content)):
        check_damaged(write(tmp_path / "d", content[:length]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 a zip file",
        b"\x1f\x8b\x08\x00 gzip",
        b"<!DOCTYPE html><html>quota exceeded</html>",
        b"\x80\x09N.",
        b"\x80\x02h\x07.",
        b".",
        b"0.",
        b"R.",
        b"K\x01K\x02R.",
        b"(K\x01K\x02s.",
        b"Pname\n.",
        b"\x80\x02X\x01\x00\x00\x00aQ.",
        b"\x80\x02\x82\xf1.",
        b"\x80\x05\x97.",
        b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",
        b"}]K\x01s.",
        b"(cbuiltins\nset\ncbuiltins\nset\nd.",
        b"cbuiltins\nset\n(cnumpy\ndtype\nltR.",
        b"cbuiltins\nset\n)\x81.",
        b"cnumpy\ndtype\n)R.",
        ARRAY + b"K\x01a.",
        b"]" * 3000 + b"a" * 2999 + b".",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"a.",
    ],
    ids=lambda content: repr(content)[:30],
)
def test_what_is_no_pickle_is_said_to_be_damaged(tmp_path: Path, content: bytes) -> None:
    check_damaged(write(tmp_path / "d", content))


def check_damaged(path: Path) -> None:
    with pytest.raises(ValueError, match=r" is damaged, or not a pickle \(.+\); fetch it again$") as caught:
        load_plain_pickle(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
