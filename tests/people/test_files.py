"""Files of labels are taken to the letter, or refused with every line that is wrong."""

from __future__ import annotations

import codecs
import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assl_lightning.data.answers import Incoming
from assl_lightning.people.errors import IngestError
from assl_lightning.people.files import read_labels
from tests.people.batches import SAMPLE_IDS, make_batch

Write = Callable[..., Path]
BYTES_ADVICE = "Save the file as UTF-8, or say what it is, as with --encoding cp1252"
COLUMNS = "the columns must be sample_id and label, and may be status, annotator, seconds, at, decides"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(content: str | bytes, name: str = "labels.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def problems(path: Path, **options: Any) -> list[str]:
    """Each line of the error, without the file's name."""
    with pytest.raises(IngestError) as caught:
        read_labels(path, **options)
    assert str(caught.value) == "\n".join(caught.value.lines)
    assert all("\n" not in line for line in caught.value.lines)
    return [line.removeprefix(path.name).removeprefix(", ") for line in caught.value.lines]


def simple(incoming: Sequence[Incoming]) -> list[tuple[str, str | None]]:
    return [(one.sample_id, one.label if one.kind == "label" else one.kind) for one in incoming]


# --- what is taken ---------------------------------------------------------------------------------------------------


def test_a_line_says_what_was_answered_by_whom_when_and_how_long_it_took(write: Write) -> None:
    path = write(
        "label,sample_id,status,annotator,seconds,at\n"
        "ok,a.png,,Ann,1.5,2026-01-31T14:05:00+01:00\n"
        ",b.png,skip,,,\n"
        ',"c\nd.png", bad , Bo ,0,2026-01-31 14:05:00Z\n'
        ",e.png,,,,\n"
        "\n"
        ",,,,,\n"
        "ok,f.png,,,,\n"
    )
    assert read_labels(path, annotator="me") == [
        Incoming("labels.csv, line 2", "a.png", "label", "ok", "Ann", 1.5, "2026-01-31T13:05:00.000+00:00"),
        Incoming("labels.csv, line 3", "b.png", "skip", None, "me"),
        Incoming("labels.csv, line 4", "c\nd.png", "bad", None, "Bo", 0.0, "2026-01-31T14:05:00.000+00:00"),
        Incoming("labels.csv, line 9", "f.png", "label", "ok", "me"),
    ]


@pytest.mark.parametrize(("name", "content"), [("labels.csv", "sample_id,label\n"), ("l.json", "[]"), ("l.json", "{}")])
def test_a_file_without_lines_has_no_answers(write: Write, name: str, content: str) -> None:
    assert read_labels(write(content, name)) == []


def test_what_programs_write_for_a_missing_value_is_no_answer_unless_a_class_is_called_so(write: Write) -> None:
    path = write("sample_id,label,status,seconds\na,NaN,nan,NaT\nb,nan,skip,<NA>\nNaN,ok,NaN,1\n")
    assert simple(read_labels(path)) == [("b", "skip"), ("NaN", "ok")], "a sample may be called so"
    path = write("sample_id,label\na,NaN\nb,nan\n")
    assert simple(read_labels(path, class_names=["nan", "ok"])) == [("b", "nan")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("suffix", ["csv", "CSV", "tsv", "txt"])
def test_the_delimiter_is_the_headers(write: Write, delimiter: str, ends: str, suffix: str) -> None:
    rows = ["sample_id*label*notes", '"a,b;c\td.png"*ok*x', '"e*f"*dent*', ""]
    found = read_labels(write(ends.join(rows).replace("*", delimiter), f"labels.{suffix}"))
    assert simple(found) == [("a,b;c\td.png", "ok"), (f"e{delimiter}f", "dent")]
    assert found[1].where == f"labels.{suffix}, line 3"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_unicode_says_itself_what_it_is(write: Write, encoding: str) -> None:
    assert simple(read_labels(write("sample_id,label\nsub/ü.png,ok\n".encode(encoding)))) == [("sub/ü.png", "ok")]


@pytest.mark.parametrize(
    ("written", "named"), [("cp1252", "cp1252"), ("utf-16-le", "utf-16-le"), ("utf-8-sig", "utf-8"), ("utf-8", "UTF8")]
)
def test_other_encodings_are_taken_by_name(write: Write, written: str, named: str) -> None:
    path = write("sample_id,label\nsub/ü.png,ok\n".encode(written))
    assert simple(read_labels(path, encoding=named)) == [("sub/ü.png", "ok")]


def test_the_table_that_was_written_comes_back_filled_in(tmp_path: Path) -> None:
    odd = (
        "=1+1.png",
        "+5",
        "-x.png",
        "@home.png",
        "00123",
        "'q'.png",
        '"',
        "a;b",
        "\u2028",
        " spaced ",
        "1-2",
        *SAMPLE_IDS,
    )
    table = make_batch(tmp_path, sample_ids=odd, show_predictions=True).directory / "to_label.csv"
    assert [line.split(",")[0] for line in table.read_text().splitlines()[1:5]] == list(odd[:4]), "to the letter"
    assert read_labels(table) == []
    rows = list(csv.DictReader(io.StringIO(table.read_text(), newline="")))
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0].keys())
    writer.writeheader()
    writer.writerows({**row, "label": "-1"} for row in rows)
    table.write_text(file.getvalue(), newline="")
    assert simple(read_labels(table)) == [(name, "-1") for name in odd]


@pytest.mark.parametrize(
    "content",
    [
        [{"sample_id": "a.png", "label": "ok", "seconds": 2}, {"sample_id": "b.png"}, {"sample_id": 7, "label": True}],
        [
            {"sample_id": "a.png", "label": "ok", "notes": {"x": []}},
            {"status": ""},
            {"sample_id": "7", "label": "True"},
        ],
    ],
)
def test_json_is_a_list_of_objects(write: Write, content: Any) -> None:
    found = read_labels(write(json.dumps(content), "labels.json"), annotator="me")
    assert simple(found) == [("a.png", "ok"), ("7", "True")]
    assert [one.where for one in found] == ["labels.json, entry 1", "labels.json, entry 3"]


def test_json_may_be_one_object(write: Write) -> None:
    path = write('\ufeff{"a.png": "ok", "b.png": null, "c.png": "", "a.png": "dent"}', "labels.json")
    found = read_labels(path, annotator="me")
    assert simple(found) == [("a.png", "ok"), ("a.png", "dent")], "a key that is there twice is not lost"
    assert found[1] == Incoming("labels.json, entry 4", "a.png", "label", "dent", "me")


RECORDED = Path(__file__).parent / "label_studio" / "fixtures"


def test_an_export_of_label_studios_is_read_as_such(write: Write) -> None:
    path = write((RECORDED / "export.json").read_text(), "export.json")
    assert [(one.sample_id, one.kind, one.label, one.annotator) for one in read_labels(path, annotator="me")] == [
        ("sub/img0.png", "label", "red", "1"),
        ("sub/img2.png", "skip", None, "1"),
        ("sub/img1.png", "label", "green", "1"),
    ]
    without_skips = write((RECORDED / "export.min.json").read_text(), "export.json")
    assert any("skipped images are missing" in line for line in problems(without_skips))


def test_a_files_odd_name_is_written_so_that_it_can_be_printed(write: Write) -> None:
    path = write("sample_id,label\na.png,ok\n", "odd\n\udcff\x1b.csv")
    assert read_labels(path)[0].where == "odd\\n\\udcff\\x1b.csv, line 2"


# --- Parquet ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def parquet_of(tmp_path: Path) -> Write:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    def write_columns(columns: dict[str, Any]) -> Path:
        parquet.write_table(pyarrow.table(columns), tmp_path / "labels.parquet")
        return tmp_path / "labels.parquet"

    return write_columns


def test_parquet_is_read_as_csv_is(parquet_of: Write) -> None:
    moment = datetime(2026, 1, 31, 14, 5, tzinfo=timezone.utc)
    path = parquet_of(
        {
            "sample_id": ["a.png", "b.png", "c.png"],
            "label": ["ok", None, None],
            "status": [None, "skip", ""],
            "seconds": [1.5, float("nan"), None],
            "at": [moment, None, None],
            "score": [1, 2, 3],
        }
    )
    assert read_labels(path, annotator="me") == [
        Incoming("labels.parquet, row 1", "a.png", "label", "ok", "me", 1.5, "2026-01-31T14:05:00.000+00:00"),
        Incoming("labels.parquet, row 2", "b.png", "skip", None, "me"),
    ]


def test_whole_numbers_in_parquet_have_no_decimals_and_others_are_for_judging(parquet_of: Write) -> None:
    columns = {"sample_id": [123.0, 4, 5], "label": [1.0, None, 1.5]}
    assert simple(read_labels(parquet_of(columns))) == [("123", "1"), ("5", "1.5")]


def test_parquet_that_is_wrong_is_refused_in_one_line(parquet_of: Write, write: Write) -> None:
    assert problems(parquet_of({"sample_id": ["a"], "class": ["ok"]})) == [
        f": {COLUMNS}; label missing, there is 'sample_id', 'class'"
    ]
    assert problems(parquet_of({"sample_id": [b"a", b"b"], "label": [["ok"], None]})) == [
        "row 1: sample_id must be a text; got b'a'",
        "row 2: sample_id must be a text; got b'b'",
    ]
    assert problems(write(b"PAR1 no, PAR1", "labels.parquet"))[0].startswith(" must be a Parquet file (")
    far = pytest.importorskip("pyarrow").array([2**62], "timestamp[us]")
    (problem,) = problems(parquet_of({"sample_id": ["a"], "label": ["ok"], "at": far}))
    assert problem == " must be a Parquet file (date value out of range); write it again"
    path = parquet_of({"sample_id": ["a"], "label": ["ok"]})
    assert problems(path, encoding="cp1252") == [
        " is a Parquet file, which is always UTF-8; leave --encoding cp1252 out"
    ]


def test_without_pyarrow_a_parquet_file_says_what_to_install(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (problem,) = problems(write(b"", "labels.parquet"))
    assert problem.endswith("install it with pip install 'pyarrow>=15', or save the table as CSV")


# --- what is refused -------------------------------------------------------------------------------------------------


def test_everything_that_is_wrong_is_told_at_once_by_its_line(write: Write) -> None:
    path = write(
        b"sample_id,label,status,seconds,at\n"
        b"a.png,ok,skip,,\n"
        b"b.png,,Skip,,\n"
        b'"c\n.png",ok,,fast,yesterday\n'
        b"d.png,ok\n"
        b",ok,,,\n"
        b"e.png,ok,,,,\n"
        b"f.png,ok,,-1,2026-13-01\n"
        b"\xfc.png,ok,,,\n"
        b"g.png,ok,,inf,\n"
        b"h.png,ok,,1_0,\n"
        b"i.png,,done,,\n"
        b"\xe4.png,,sk\xfcp,\xfc,\n"
        b"j.png,,,oops,oops\n"
        b'k.png,"ok\n'
    )
    seconds = "seconds must be a number of at least 0 such as 1.5, or empty; got"
    assert problems(path) == [
        f"lines 10, 14: the bytes must be UTF-8; line 10 has 0xfc. {BYTES_ADVICE}",
        "line 2: either label or status must be empty; got the label 'ok' and the status 'skip'",
        "line 3: status must be skip, bad or empty; got 'Skip'",
        f"line 4: {seconds} 'fast'",
        "line 4: at must be a time such as 2026-01-31T14:05:00+01:00, or empty; got 'yesterday'",
        "line 6: a line must have 5 cells as the header has; it has 2",
        "line 7: the answer 'ok' needs a sample_id; its cell is empty",
        "line 8: a line must have 5 cells as the header has; it has 6",
        f"line 9: {seconds} '-1'",
        "line 9: at must be a time such as 2026-01-31T14:05:00+01:00, or empty; got '2026-13-01'",
        f"line 11: {seconds} 'inf'",
        f"line 12: {seconds} '1_0'",
        "line 13: status must be skip, bad or empty; got 'done'",
        "line 16: the file cannot be read from here on (unexpected end of data); close the quotes, and write quotes "
        "within them twice",
    ]


HEADER_OF = {
    "": "labels.csv must begin with a header, such as sample_id,label; it is empty",
    "\n \n": "labels.csv must begin with a header, such as sample_id,label; it is empty",
    "a.png,ok\n": f"line 1: {COLUMNS}; sample_id and label missing, there is 'a.png', 'ok'",
    "\n\nsample_id,class\n": f"line 3: {COLUMNS}; label missing, there is 'sample_id', 'class'",
    "file|class\n": f"line 1: {COLUMNS}; sample_id and label missing, there is 'file|class'",
    "sample_id,label,label\n": f"line 1: {COLUMNS}; label is there 2 times",
    "sample_id,label,Status,path\n": f"line 1: {COLUMNS}; it has 'Status' (did you mean 'status'?)",
    "Sample-ID,label,date\n": f"line 1: {COLUMNS}; it has 'Sample-ID' (did you mean 'sample_id'?)",
    "sample_id,label,anotator,cat\n": f"line 1: {COLUMNS}; it has 'anotator' (did you mean 'annotator'?)",
}


@pytest.mark.parametrize("content", HEADER_OF)
def test_a_header_that_is_wrong_is_named(write: Write, content: str) -> None:
    assert problems(write(content)) == [HEADER_OF[content].removeprefix("labels.csv")]


@pytest.mark.parametrize(
    ("content", "encoding", "expected"),
    [
        (b"sample_id,label\n\xfc,ok\n", None, f"line 2: the bytes must be UTF-8; line 2 has 0xfc. {BYTES_ADVICE}"),
        (
            b"sample_id,label\na,ok\n\x81,ok\n",
            "cp1252",
            f"line 3: the bytes must be CP1252; line 3 has 0x81. {BYTES_ADVICE}",
        ),
        (
            b"sample_id,label\n" + b"\xff,ok\n" * 12,
            None,
            "lines 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, and 2 more: the bytes must be UTF-8; line 2 has 0xff. "
            f"{BYTES_ADVICE}",
        ),
        (
            "sample_id,label\na,ok\n".encode("utf-16") + b"\x00",
            None,
            f"line 3: the bytes must be UTF-16; line 3 has 0x00. {BYTES_ADVICE}",
        ),
        (
            "sample_id,label\n".encode("utf-16-le"),
            None,
            "line 1: a text has no zero bytes, as this line does; save the file as UTF-8, or say what it is with "
            "--encoding, such as --encoding utf-16-le",
        ),
        (
            codecs.BOM_UTF8 + b"sample_id,label\na,ok\n",
            "cp1252",
            " begins with the byte order mark of UTF-8, but --encoding is cp1252; leave it out",
        ),
    ],
)
def test_bytes_that_do_not_fit_are_told_with_the_option(
    write: Write, content: bytes, encoding: str | None, expected: str
) -> None:
    assert problems(write(content), encoding=encoding) == [expected]


@pytest.mark.parametrize("encoding", ["klingon", "hex", "zip", "undefined", "", "a\0b", "ü"])
def test_an_encoding_that_is_none_is_refused(write: Write, encoding: str) -> None:
    (problem,) = problems(write("sample_id,label\na,ok\n"), encoding=encoding)
    assert "--encoding" in problem


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "labels.xlsx",
            "labels.xlsx must be a file of labels, named .csv, .tsv, .txt, .parquet or .json; save the sheet as CSV "
            "UTF-8",
        ),
        ("labels", "labels must be a file of labels, named .csv, .tsv, .txt, .parquet or .json"),
        ("none.csv", "must be a file that can be read (No such file or directory); give its path"),
        ("none.parquet", "must be a file that can be read (No such file or directory); give its path"),
        ("directory.csv", "must be a file that can be read (Is a directory); give its path"),
        ("zero\0.csv", "must be a file that can be read (embedded null byte); give its path"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, name: str, expected: str) -> None:
    if name == "none.parquet":
        pytest.importorskip("pyarrow")
    (tmp_path / "directory.csv").mkdir()
    with pytest.raises(IngestError) as caught:
        read_labels(tmp_path / name)
    assert str(caught.value).endswith(expected)


JSON_PROBLEMS = {
    "": ["line 1: the file must be JSON (Expecting value); write it again"],
    '[{"sample_id": "a",\n]': [
        "line 1: the file must be JSON (Illegal trailing comma before end of object); write it again",
        "line 2: the file must be JSON (Expecting property name enclosed in double quotes); write it again",
    ],
    "[" * 100_000: [],
    "9" * 5000: [],
    "7": [' must be a list of objects with sample_id and label, or one object {"sample_id": "label"}; it is 7'],
    '["a.png"]': [f": {COLUMNS}; sample_id and label missing, there is nothing"],
    '[{"sample_id": "a", "lable": "ok"}]': [f": {COLUMNS}; it has 'lable' (did you mean 'label'?)"],
    '{"a.png": ["ok"]}': ["entry 1: label must be a text; got ['ok']"],
    '{"a\\ud800.png": "ok"}': ["entry 1: sample_id must be a text that UTF-8 can write; got 'a\\ud800.png'"],
}


@pytest.mark.parametrize("content", JSON_PROBLEMS, ids=range(len(JSON_PROBLEMS)))
def test_json_that_is_wrong_is_refused(write: Write, content: str) -> None:
    (problem,) = problems(write(content, "labels.json"))
    expected = JSON_PROBLEMS[content]
    assert problem in expected or (not expected and problem.startswith(" must be JSON ("))


def test_everything_that_is_wrong_with_json_is_told_at_once(write: Write) -> None:
    path = write(
        '[{"sample_id": "a", "label": "ok", "status": "bad"}, 7, {"sample_id": "b", "label": {"x": 1}},'
        ' {"sample_id": "c", "label": "ok", "label": "dent"}, {"label": "ok"}]',
        "labels.json",
    )
    assert problems(path) == [
        "entry 1: either label or status must be empty; got the label 'ok' and the status 'bad'",
        "entry 2: an entry must be an object with sample_id and label; got 7",
        "entry 3: label must be a text; got {'x': 1}",
        "entry 4: label must be there once; it is there more often",
        "entry 5: the answer 'ok' needs a sample_id; its cell is empty",
    ]


# --- any file --------------------------------------------------------------------------------------------------------

CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1) | st.sampled_from(
    [
        "00123",
        "=1+1",
        "+5",
        "-",
        "@a",
        '"',
        "'",
        "\u2028",
        "\u2029",
        "\x85",
        "\x1c",
        "\r",
        "a\r\nb",
        "\ufeff",
        " ",
        "TRUE",
        "NaN",
        "null",
    ]
)


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5),
    delimiter=st.sampled_from(",;\t"),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    ends=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str]],
    delimiter: str,
    quoting: Any,
    ends: str,
    encoding: str,
) -> None:
    file = io.StringIO(newline="")
    if quoting != csv.QUOTE_ALL:
        ends = "\r\n"  # Python's writer leaves line ends within cells unquoted that are not the file's
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=ends)
    writer.writerows([("sample_id", "label"), *rows])
    path = tmp_path_factory.getbasetemp() / "round_trip.csv"
    path.write_bytes(file.getvalue().encode(encoding))
    classes = {label for _, label in rows}
    expected = [(name, label) for name, label in rows if label.strip()]  # a blank cell is empty
    assert simple(read_labels(path, class_names=classes)) == expected
    path = path.with_suffix(".json")
    path.write_text(json.dumps([{"sample_id": name, "label": label} for name, label in rows]))
    assert simple(read_labels(path, class_names=classes)) == expected


@settings(deadline=None)
@given(content=st.binary(max_size=200) | st.text(alphabet='sample_id,label\n";\t{}[]:', max_size=80).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    for suffix in ("csv", "json"):
        path = tmp_path_factory.getbasetemp() / f"any.{suffix}"
        path.write_bytes(b"sample_id,label\n" + content if suffix == "csv" else content)
        with suppress(IngestError):
            read_labels(path)
