"""What a report and an analysis read, damaged: exit code 1 and one line that names the file, and no report is written.

`OF_A_RUN` damages one file of three runs that the report compares, `SNAPSHOTS` what the analysis of instability reads.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assl_lightning.learning.snapshot_files import Snapshot, read_snapshot, write_snapshot
from assl_lightning.loop.evaluation import read_evaluation
from assl_lightning.loop.queried import read_queried
from assl_lightning.report.__main__ import main as report
from assl_lightning.report.instability.__main__ import main as instability
from assl_lightning.report.picks import main as picks
from assl_lightning.report.sections.histograms import read_histograms
from assl_lightning.report.sections.thumbnails import read_tiles
from tests.malformed.trees import Trap, contents, error_lines, problem_of, refused
from tests.report.conftest import Runs

COLOURS = [(200, 0, 0), (0, 200, 0)]
KNOWN = {"edges": [0.0, 0.5, 1.0], "pool": [90.0, 10.0], "queried": [1.0, 9.0]}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of the runs, with every file that a report reads."""
    runs = Runs(tmp_path / "runs")
    for seed, method in enumerate(("random", "assl")):
        path = runs.add(method, seed, [0.5, 0.6], queried_labels=(1, 2))
        runs.write_sheet(path / "round_00" / "queried.png", COLOURS)
        runs.write_queried(path / "round_00" / "queried.csv", ["a", "b"])
        runs.write_histograms(path / "round_00" / "histograms.json")
        runs.write_sheet(path / "round_01" / "errors.png", COLOURS[:1])
        (path / "round_01" / "evaluation.npz").write_bytes(of_evaluation())
        for number in (0, 1):
            runs.write_metrics(path / f"round_{number:02d}" / "metrics.csv", {99: (0.5, 0.4)})
    monkeypatch.chdir(tmp_path)
    return path


def check_refused(
    root: Path,
    capsys: pytest.CaptureFixture[str],
    command: Callable[[list[str]], int],
    arguments: list[str],
    *words: str,
) -> None:
    before = contents(root)
    assert command(arguments) == 1
    (line,) = error_lines(capsys.readouterr().err)
    assert [word for word in words if word not in line] == [], line
    assert contents(root) == before


def of_histogram(**changes: object) -> bytes:
    return json.dumps({"uncertainty_mean": {**KNOWN, **changes}}).encode()


def png(width: int, height: int, *chunks: bytes) -> bytes:
    return (
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
        + struct.pack(">II", width, height)
        + b"\x08\x02\0\0\0"
        + b"".join(chunks)
    )


def of_evaluation(**changes: object) -> bytes:
    """Return an evaluation.npz with other arrays, or without those that are None."""
    arrays = {
        **{name: np.array([0, 1], np.int32) for name in ("position", "label")},
        "predicted": np.array([1, 1], np.int32),
        "confidence": np.array([0.75, 0.5], np.float32),
        "pictured": np.array(["a.png"]),
        **changes,
    }
    file = io.BytesIO()
    np.savez(file, **{name: array for name, array in arrays.items() if array is not None})  # type: ignore[arg-type]
    return file.getvalue()


HEADER = "rank,index,sample_id,score,uncertainty_mean,uncertainty_variance\n"
CSV, PNG, HISTOGRAMS = "round_00/queried.csv", "round_00/queried.png", "round_00/histograms.json"
EVALUATION, ERRORS = "round_01/evaluation.npz", "round_01/errors.png"
TESTS = "epoch,loss,step,test_accuracy_ema,test_accuracy_raw\n"

OF_A_RUN: list[tuple[str, str, bytes, str]] = [
    # histograms.json
    ("empty", HISTOGRAMS, b"", "must map names"),
    ("no JSON", HISTOGRAMS, b"{", "must map names"),
    ("bytes", HISTOGRAMS, b"\xff\xfe\x00", "must map names"),
    ("nested without end", HISTOGRAMS, b"[" * 100_000, "must map names"),
    ("a list", HISTOGRAMS, b"[1]", "must map names"),
    ("a number", HISTOGRAMS, b"3", "must map names"),
    ("a statistic that is a number", HISTOGRAMS, b'{"a": 3}', "must map names"),
    ("no counts", HISTOGRAMS, b'{"a": {"edges": [0, 1]}}', "must map names"),
    ("texts", HISTOGRAMS, of_histogram(pool=["many", "few"]), "must map names"),
    ("lists of unlike lengths", HISTOGRAMS, of_histogram(pool=[[1], [1, 2]]), "must map names"),
    ("a count too few", HISTOGRAMS, of_histogram(pool=[1]), "pool and queried must have 2 counts"),
    ("NaN", HISTOGRAMS, of_histogram(edges=[0, float("nan"), 1]), "lists of numbers"),
    ("infinity", HISTOGRAMS, of_histogram(pool=[float("inf"), 1]), "lists of numbers"),
    ("two axes", HISTOGRAMS, of_histogram(edges=[[0, 1, 2]]), "lists of numbers"),
    ("one number", HISTOGRAMS, of_histogram(edges=3), "lists of numbers"),
    ("no edges", HISTOGRAMS, of_histogram(edges=[], pool=[], queried=[]), "lists of numbers"),
    ("falling edges", HISTOGRAMS, of_histogram(edges=[1, 0.5, 0]), "ascending edges"),
    ("counts below 0", HISTOGRAMS, of_histogram(queried=[-1, 2]), "counts of at least 0"),
    # queried.csv
    ("bytes", CSV, b"\xff\xfe\x00", "is not a table of queried samples"),
    ("a text for a score", CSV, f"{HEADER}0,1,a,high,0,0\n".encode(), "after line 2"),
    ("a text for a mean", CSV, f"{HEADER}0,1,a,1,high,0\n".encode(), "is not a table of queried samples"),
    ("a field without end", CSV, f"{HEADER}0,1,{'a' * 200_000},1,0,0\n".encode(), "is not a table of queried samples"),
    # queried.png
    ("empty", PNG, b"", "is not a contact sheet"),
    ("a text", PNG, b"no image", "is not a contact sheet"),
    ("a head alone", PNG, b"\x89PNG\r\n\x1a\n", "is not a contact sheet"),
    ("a broken chunk", PNG, png(4, 4, b"\0\0\0\0", b"\0\0\0\5IDATabc"), "is not a contact sheet"),
    ("very many pixels", PNG, png(2**31 - 1, 2**31 - 1, b"\0\0\0\0"), "is not a contact sheet"),
    ("a trap", PNG, pickle.dumps(Trap()), "is not a contact sheet"),
    # evaluation.npz and errors.png
    ("empty", EVALUATION, b"", "is not the evaluation of a round"),
    ("a text", EVALUATION, b"no table", "is not the evaluation of a round"),
    ("a trap", EVALUATION, pickle.dumps(Trap()), "is not the evaluation of a round"),
    ("an object in an array", EVALUATION, of_evaluation(label=np.array([Trap()])), "is not the evaluation of a round"),
    ("a column too few", EVALUATION, of_evaluation(label=None), "label"),
    ("a class that is not there", EVALUATION, of_evaluation(label=np.array([4, 1], np.int32)), "4 classes"),
    ("a picture of another kind", ERRORS, b"no image", "is not a contact sheet"),
    # rounds.jsonl and config.yaml
    ("no JSON", "rounds.jsonl", b"{\n", "line 1 is not JSON"),
    ("a record of another kind", "rounds.jsonl", b'{"round": 0}\n', "line 1 is not the record of a round"),
    ("bytes", "rounds.jsonl", b"\xff\n", "is not a text"),
    ("only a new line", "rounds.jsonl", b"\n", "line 1 is not JSON"),
    ("empty", "config.yaml", b"", "is not the configuration of a run"),
    ("a list", "config.yaml", b"- 1\n", "is not the configuration of a run"),
    ("no YAML", "config.yaml", b"a: [\n", "cannot be read"),
    (
        "a class that runs",
        "config.yaml",
        b"a: !!python/object/apply:os.system ['touch made-by-a-file']\n",
        "cannot be read",
    ),
    ("keys missing", "config.yaml", b"seed: 1\n", "data, network, algorithm, acquisition, rounds"),
]


READERS: dict[str, Callable[[Path], object]] = {
    HISTOGRAMS: read_histograms,
    CSV: read_queried,
    PNG: lambda path: read_tiles(path, 2),
    EVALUATION: read_evaluation,
    ERRORS: lambda path: read_tiles(path, 1),
}
"""A file that the report reads by a function of its own → that function."""

OF_A_READER = [row for row in OF_A_RUN if row[1] in READERS and row[3] != "4 classes"]
FIRST_OF_A_READER = [next(row for row in OF_A_READER if row[1] == file) for file in READERS]
OF_THE_COMMAND = [row for row in OF_A_RUN if row not in OF_A_READER or row in FIRST_OF_A_READER]


@pytest.mark.parametrize(
    ("name", "file", "content", "words"), OF_A_READER, ids=[f"{file}: {name}" for name, file, *_ in OF_A_READER]
)
def test_a_file_that_is_none_is_named_by_its_reader(
    tmp_path: Path, name: str, file: str, content: bytes, words: str
) -> None:
    path = tmp_path / Path(file).name
    path.write_bytes(content)
    with refused(tmp_path, str(path), words):
        READERS[file](path)


@pytest.mark.parametrize(
    ("name", "file", "content", "words"), OF_THE_COMMAND, ids=[f"{file}: {name}" for name, file, *_ in OF_THE_COMMAND]
)
def test_a_file_that_is_none_ends_the_report(
    run: Path, capsys: pytest.CaptureFixture[str], name: str, file: str, content: bytes, words: str
) -> None:
    (run / file).write_bytes(content)
    root = run.parents[1]
    check_refused(root, capsys, report, [str(root), "--settings"], str(run / file), words)


OF_A_CONFIG: dict[str, str] = {
    "seed": "'1'",
    "rounds": "true",
    "initial_labels": "1.5",
    "labels_per_round": "null",
    "data": "digits",
    "network": "[1]",
    "algorithm": "3",
    "acquisition": "null",
    "environment": "[torch, numpy]",
    "environment ": "{torch: [2, 15]}",
    "environment  ": "3.11",
}


@pytest.mark.parametrize("key", OF_A_CONFIG)
def test_a_key_that_is_of_another_type_ends_the_report(run: Path, capsys: pytest.CaptureFixture[str], key: str) -> None:
    file = run / "config.yaml"
    lines, kept = file.read_text().splitlines(), []
    is_below = False
    for line in lines:
        is_below = line.startswith(f"{key.strip()}:") or (is_below and line.startswith(" "))
        kept += [] if is_below else [line]
    file.write_text("\n".join([*kept, f"{key.strip()}: {OF_A_CONFIG[key]}"]) + "\n")
    check_refused(run.parents[1], capsys, report, [str(run.parents[1])], str(file), key.strip())


METRICS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "has no row with test_accuracy_raw"),
    "bytes": (b"\xff\xfe\x00", "metrics.csv must have a whole number in step"),
    "no step": (b"test_accuracy_raw\n0.5\n", "KeyError: 'step'"),
    "a row too short": (b"test_accuracy_raw,step\n0.5\n", "metrics.csv must have a whole number in step"),
    "a text for a step": (f"{TESTS}0,,first,0.5,0.5\n".encode(), "metrics.csv must have a whole number in step"),
    "half a step": (f"{TESTS}0,,1.5,0.5,0.5\n".encode(), "metrics.csv must have a whole number in step"),
    "a step below 0": (f"{TESTS}0,,-5,0.5,0.5\n".encode(), "got step -5"),
    "per cent": (f"{TESTS}0,,9,50,50\n".encode(), "accuracies in [0, 1]"),
    "a text for an accuracy": (f"{TESTS}0,,9,0.5,high\n".encode(), "metrics.csv must have a whole number in step"),
    "infinity": (f"{TESTS}0,,9,inf,0.5\n".encode(), "accuracies in [0, 1]"),
}


@pytest.mark.parametrize("name", METRICS)
def test_tests_that_are_none_end_the_report_by_steps(run: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    content, words = METRICS[name]
    for number in (0, 1):
        (run / f"round_{number:02d}" / "metrics.csv").write_bytes(content)
    root = run.parents[1]
    check_refused(root, capsys, report, [str(root), "--steps"], str(run), words)


PLACES = ["nowhere", "file", "empty"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", [report, instability, picks], ids=["report", "instability", "picks"])
def test_a_place_without_a_run_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: Callable[[list[str]], int], place: str
) -> None:
    (tmp_path / "file").write_text("no run")
    (tmp_path / "empty").mkdir()
    path = str(tmp_path / place)
    check_refused(tmp_path, capsys, command, [path, path] if command is picks else [path], path)


# --- snapshots -------------------------------------------------------------------------------------------------------


def a_snapshot(number: int = 1, **changes: Any) -> Snapshot:
    count = 4
    columns = dict.fromkeys(
        ("max_probability", "uncertainty", "uncertainty_mean", "uncertainty_variance"), np.full(count, 0.5, np.float32)
    )
    columns |= dict.fromkeys(("inconsistency_mean", "inconsistency_variance"), np.zeros(count, np.float32))
    whole: dict[str, Any] = {
        **columns,
        "step": np.array(number),
        "index": np.arange(count),
        "prediction": np.zeros(count, np.int16),
        "visits": np.ones(count, np.int32),
        "c_u": np.array(0.5),
        "c_i": np.array(0.5),
    }
    return Snapshot(**{**whole, **changes})


def with_columns(**changes: Any) -> Callable[[Path], object]:
    return lambda path: np.savez(path.open("wb"), **vars(a_snapshot(**changes)))


def with_two_other_bytes(path: Path) -> None:
    content = path.read_bytes()  # the first deflated data begin at 58
    path.write_bytes(content[:90] + b"\xff\xff" + content[92:])


SNAPSHOTS: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-50]),
    "headless": lambda path: path.write_bytes(path.read_bytes()[50:]),
    "two bytes of its deflated data": with_two_other_bytes,
    "a text": lambda path: path.write_text("snapshot"),
    "one array": lambda path: np.save(path.open("wb"), np.arange(3)),
    "a trap": lambda path: path.write_bytes(pickle.dumps(Trap())),
    "objects": lambda path: np.savez(path.open("wb"), step=np.array([Trap()], object)),
    "nothing in it": lambda path: np.savez(path.open("wb")),
    "columns missing": lambda path: np.savez(path.open("wb"), step=np.array(1)),
    "a column too short": with_columns(uncertainty=np.zeros(3, np.float32)),
    "two axes": with_columns(index=np.zeros((2, 2), np.int64)),
    "texts": with_columns(prediction=np.array(["a", "b", "c", "d"])),
    "a step for each": with_columns(step=np.arange(4)),
    "booleans": with_columns(visits=np.ones(4, bool)),
    "dates": with_columns(uncertainty_mean=np.zeros(4, "M8[s]")),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", SNAPSHOTS)
def test_a_snapshot_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "run" / "round_00" / "snapshots" / "raw"
    directory.mkdir(parents=True)
    for step in (1, 2):
        write_snapshot(directory, a_snapshot(step))
    path = directory / "step_00000002.npz"
    SNAPSHOTS[name](path)
    check_refused(tmp_path, capsys, instability, [str(tmp_path / "run")], f"{path} is not the file of a snapshot")


# --- at random -------------------------------------------------------------------------------------------------------

EVERYTHING = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@EVERYTHING
@given(place=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255), keep=st.floats(0, 1))
def test_a_file_of_a_report_with_a_byte_changed_and_its_end_cut_is_read_or_named(
    tmp_path: Path, place: float, bits: int, keep: float
) -> None:
    Runs.write_sheet(tmp_path / "a" / "queried.png", COLOURS)
    Runs.write_queried(tmp_path / "a" / "queried.csv", ["a", "b"])
    Runs.write_histograms(tmp_path / "a" / "histograms.json")
    write_snapshot(tmp_path / "a", a_snapshot())
    (tmp_path / "a" / "evaluation.npz").write_bytes(of_evaluation())
    readers: dict[str, Callable[[Path], object]] = {
        "queried.png": lambda path: read_tiles(path, 2),
        "queried.csv": read_queried,
        "histograms.json": read_histograms,
        "step_00000001.npz": read_snapshot,
        "evaluation.npz": read_evaluation,
    }
    for name, read in readers.items():
        path = tmp_path / "a" / name
        content = bytearray(path.read_bytes())
        content[int(place * len(content))] ^= bits
        path.write_bytes(content[: 1 + int(keep * len(content))])
        problem = problem_of(partial(read, path))
        assert problem is None or problem.startswith(str(path))


def test_a_directory_for_a_picture_is_named(run: Path) -> None:
    path = run / PNG
    path.unlink()
    path.mkdir()
    with refused(run, str(path)):
        read_tiles(path, 1)
