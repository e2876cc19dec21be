"""Run directories with a damaged file: a run refuses to go on and leaves all as it was.

`OF_A_RECORD` (one line of rounds.jsonl or the record in state.json), `OF_A_FILE` and `OF_TENSORS` are damages by kind;
checkpoints from within a round are passed over instead, with a warning that names them.
"""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer

from assl_lightning.loop import RoundSettings, ScoreSettings
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.records import read_config, read_records, record_of
from assl_lightning.method.assl import ASSL
from tests.damage import flip_a_bit
from tests.malformed.trees import MADE, Trap, contents, problem_of, refused
from tests.stripes import POOL_SIZE
from tests.test_resuming import SETTINGS, StopAt, Stopped, first_step_of, run, stopped_run, stopping

CONTINUED = replace(SETTINGS, init="continue", score=ScoreSettings(reset=False))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that were stopped at four moments; each test damages a copy."""
    root = tmp_path_factory.mktemp("runs")
    stopped_run(root / "training")
    with pytest.raises(Stopped):
        run(root / "trained", acquisition=stopping(ASSL()))
    with pytest.raises(Stopped):
        run(root / "continued", StopAt(1, 0), settings=CONTINUED)
    run(root / "finished")
    return root


@pytest.fixture
def copy(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    def copy_of(name: str) -> Path:
        return Path(shutil.copytree(runs / name, tmp_path / "run"))

    monkeypatch.chdir(tmp_path)
    return copy_of


def no_trainer(**keywords: Any) -> Trainer:
    """A run that makes a trainer for a fit was not refused; the one of a query has no callbacks."""
    if keywords["callbacks"]:
        raise AssertionError("it went on to train")
    return Trainer(accelerator="cpu", **keywords)


def go_on(path: Path, settings: RoundSettings = SETTINGS) -> None:
    run(path, settings=settings, make_trainer=no_trainer)


# --- rounds.jsonl and state.json -------------------------------------------------------------------------------------

ABSENT = object()

OF_A_RECORD: list[tuple[str, Any, str]] = [
    ("round", 7, "round"),
    ("round", -1, "round must be an integer of at least 0; got -1"),
    ("round", True, "round must be an integer of at least 0; got True"),
    ("round", "0", "round must be an integer of at least 0; got '0'"),
    ("round", 0.0, "round must be an integer of at least 0; got 0.0"),
    ("round", None, "round must be an integer"),
    ("round", ABSENT, "needs the keys labels, round"),
    ("labels", "6", "labels must be an integer"),
    ("labels", -6, "labels must be an integer of at least 0; got -6"),
    ("labels", [6], "labels must be an integer of at least 0; got [6]"),
    ("labels", ABSENT, "needs the keys labels"),
    ("unlabelled", None, "unlabelled must be an integer"),
    ("unlabelled", 1e3, "unlabelled must be an integer of at least 0; got 1000.0"),
    ("steps", {}, "steps must be an integer of at least 0; got {}"),
    ("steps", -1, "steps must be an integer"),
    ("test_accuracy_ema", "0.5", "test_accuracy_ema must be a number in [0, 1]"),
    ("test_accuracy_ema", None, "test_accuracy_ema must be a number in [0, 1]"),
    ("test_accuracy_ema", 95.2, "test_accuracy_ema must be a number in [0, 1], or NaN where it is not known; got 95.2"),
    ("test_accuracy_ema", -0.1, "test_accuracy_ema must be a number"),
    ("test_accuracy_ema", float("inf"), "test_accuracy_ema must be a number"),
    ("test_accuracy_ema", True, "test_accuracy_ema must be a number"),
    ("test_accuracy_raw", [0.5], "test_accuracy_raw must be a number"),
    ("test_accuracy_raw", ABSENT, "needs the keys labels"),
    ("test_balanced_accuracy_ema", "x", "test_balanced_accuracy_ema must be a number in [0, 1], NaN or null; got 'x'"),
    ("test_balanced_accuracy_raw", 2, "test_balanced_accuracy_raw must be a number"),
    ("coverage", -1, "coverage must be a number in [0, 1], NaN or null; got -1"),
    ("coverage", "all", "coverage must be a number"),
    ("mask_rate", 1.5, "mask_rate must be a number in [0, 1], NaN or null; got 1.5"),
    ("queried", None, "queried must be a list of integers"),
    ("queried", 3, "queried must be a list of integers"),
    ("queried", "123", "queried must be a list of integers"),
    ("queried", [1.5, 2, 3], "queried must be a list of integers of at least 0, each once; got [1.5, 2, 3]"),
    ("queried", [1, 1, 2], "queried must be a list of integers of at least 0, each once; got [1, 1, 2]"),
    ("queried", [-1, 1, 2], "queried must be a list of integers"),
    ("queried", [[1], [2], [3]], "queried must be a list of integers"),
    ("queried", {"1": 2}, "queried must be a list of integers"),
    ("queried_labels", [0], "queried_labels must be as many as the "),
    ("queried_labels", [-2, 0, 0], "queried_labels must be a list of integers of at least -1; got [-2, 0, 0]"),
    ("queried_labels", ["a"], "queried_labels must be a list"),
    ("queried_labels", None, "queried_labels must be a list"),
    ("skipped_steps", "none", "skipped_steps must be an integer"),
    ("skipped_steps", -1, "skipped_steps must be an integer"),
    ("drawn_at_random", 0.5, "drawn_at_random must be an integer"),
    ("candidates", -1, "candidates must be an integer of at least 0, or null; got -1"),
    ("pick_probabilities", [0.5, 0.0, 0.5], "pick_probabilities must be a list of numbers in (0, 1]"),
    ("pick_probabilities", None, "pick_probabilities must be a list of numbers"),
    ("pick_probabilities", [0.5], "pick_probabilities must be as many as the "),
    ("seconds", [], "seconds must be a dictionary of finite numbers; got []"),
    ("seconds", {"train": "long"}, "seconds must be a dictionary of finite numbers"),
    ("seconds", {"train": float("nan")}, "seconds must be a dictionary of finite numbers"),
    ("seconds", None, "seconds must be a dictionary"),
    ("surprise", 1, "needs the keys labels"),
]


def with_value(record: dict[str, Any], key: str, value: Any) -> str:
    return json.dumps({name: one for name, one in {**record, key: value}.items() if one is not ABSENT})


def named(value: object) -> str:
    return "absent" if value is ABSENT else json.dumps(value)


@pytest.mark.e2e
@pytest.mark.parametrize(("key", "value", "words"), OF_A_RECORD, ids=named)
def test_a_record_with_a_value_that_it_cannot_have_is_named(
    copy: Callable[[str], Path], key: str, value: Any, words: str
) -> None:
    path = copy("finished")
    file = path / "rounds.jsonl"
    first, *others = file.read_text().splitlines()
    file.write_text("\n".join([with_value(json.loads(first), key, value), *others]) + "\n")
    with refused(path, f"{file}, line 1", words):
        go_on(path)


LINES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "no JSON": (lambda content: content + b"{round: 2}\n", "line 3 is not JSON"),
    "half a line": (lambda content: content[:-30], "line 2 is not JSON"),
    "an empty line": (lambda content: b"\n" + content, "line 1 is not JSON"),
    "a line twice": (lambda content: content + content, "line 3 must be the record of round 2, but is that of round 0"),
    "the first line missing": (lambda content: content.split(b"\n", 1)[1], "line 1 must be the record of round 0"),
    "in another order": (
        lambda content: b"\n".join(reversed(content.splitlines())) + b"\n",
        "line 1 must be the record of round 0, but is that of round 1",
    ),
    "a list": (lambda content: b"[]\n", "line 1 is not the record of a round"),
    "a number": (lambda content: b"3\n", "line 1 is not the record of a round"),
    "null": (lambda content: b"null\n", "line 1 is not the record of a round"),
    "bytes": (lambda content: b"\xff\xfe\x00" + content, "is not a text"),
    "zeros, as after a power cut": (lambda content: content + bytes(100), "line 3 is not JSON"),
    "nested without end": (lambda content: b"[" * 100_000, "line 1 is not JSON"),
    "a number of many digits": (lambda content: b"9" * 10_000, "line 1 is not JSON"),
    "a page of the web": (lambda content: b"<html></html>", "line 1 is not JSON"),
}


@pytest.mark.parametrize("name", LINES)
def test_rounds_that_are_not_one_record_a_line_are_named(copy: Callable[[str], Path], name: str) -> None:
    path = copy("finished")
    file = path / "rounds.jsonl"
    damage, words = LINES[name]
    file.write_bytes(damage(file.read_bytes()))
    with refused(path, str(file), words):
        go_on(path)


STATES: list[tuple[str, str]] = [
    ("", "is not JSON"),
    ("{", "is not JSON"),
    ("[" * 100_000, "is not JSON"),
    ("null", "must give a state, one of training, trained, waiting; got None"),
    ("[]", "must give a state"),
    ("3", "must give a state"),
    ("{}", "must give a state"),
    ('{"state": null}', "must give a state"),
    ('{"state": "done"}', "got 'done'. Remove it, and its round is trained again"),
    ('{"state": ["trained"]}', "got ['trained']"),
    ('{"state": {"trained": 1}}', "must give a state"),
    ('{"state": "trained"}', "is not the record of a round"),
    ('{"state": "waiting", "record": null}', "is not the record of a round"),
    ('{"state": "waiting", "record": [1]}', "is not the record of a round"),
    ('{"state": "trained", "record": {"round": 0}}', "is not the record of a round"),
]


@pytest.mark.parametrize(("content", "words"), STATES, ids=lambda text: text[:30] or "empty")
def test_a_state_that_is_none_is_named(copy: Callable[[str], Path], content: str, words: str) -> None:
    path = copy("trained")
    file = path / "round_00" / "state.json"
    file.write_text(content)
    with refused(path, str(file), words):
        go_on(path)


@pytest.mark.parametrize(
    ("state", "key", "value", "words"),
    [
        ("trained", "round", 1, "must hold the record of round 0, but has that of round 1"),
        ("waiting", "round", 5, "must hold the record of round 0"),
        ("trained", "labels", "6", "labels must be an integer"),
        ("waiting", "queried", [POOL_SIZE], "lies outside the pool's 0 … 59"),
        ("waiting", "queried", [10**30], "state.json does not hold what this run needs"),
        ("waiting", "queried", ["a"], "queried must be a list of integers"),
    ],
)
def test_the_record_of_a_round_that_is_not_complete_is_checked(
    copy: Callable[[str], Path], state: str, key: str, value: Any, words: str
) -> None:
    path = copy("trained")
    file = path / "round_00" / "state.json"
    record = {**json.loads(file.read_text())["record"], key: value}
    file.write_text(json.dumps({"state": state, "record": record}))
    with refused(path, str(file), words):
        go_on(path)


def test_samples_that_wait_for_labels_that_they_have_are_named(copy: Callable[[str], Path]) -> None:
    path = copy("trained")
    file = path / "round_00" / "state.json"
    labels = torch.load(path / "round_00" / "pool.pt", weights_only=True)["labels"]
    known = int((labels >= 0).nonzero()[0])
    file.write_text(
        json.dumps({"state": "waiting", "record": json.loads(file.read_text())["record"] | {"queried": [known]}})
    )
    with refused(path, str(file), f"sample {known}", "labelled since round 0"):
        go_on(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "Expecting property name"),
        ('{"held_out": []}', "KeyError: 'others'"),
        ('{"held_out": [], "others": ["a"]}', "initial.json does not hold what this run needs"),
        ('{"held_out": [], "others": [60]}', "sample 60 lies outside the pool's 0 … 59"),
        ('{"held_out": [-1], "others": []}', "sample -1 lies outside the pool's 0 … 59"),
        ('{"held_out": [3], "others": [3, 4]}', "sample 3 was named twice"),
    ],
)
def test_a_first_request_that_cannot_be_is_named(copy: Callable[[str], Path], content: str, words: str) -> None:
    path = copy("training")
    (path / "round_00" / "pool.pt").unlink()  # the labels are waited for
    file = path / "round_00" / "initial.json"
    file.write_text(content)
    with refused(path, str(file), words):
        go_on(path)


# --- config.yaml -----------------------------------------------------------------------------------------------------

CONFIGS: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "is not the configuration of a run"),
    "only a comment": ("# nothing\n", "is not the configuration of a run"),
    "a list": ("- 1\n- 2\n", "is not the configuration of a run"),
    "a text": ("rounds", "is not the configuration of a run"),
    "a number": ("5", "is not the configuration of a run"),
    "no YAML": ("rounds: [1\n", "cannot be read"),
    "a tab": ("score:\n\talpha: 1\n", "cannot be read"),
    "two documents": ("rounds: 1\n---\nrounds: 2\n", "cannot be read"),
    "bytes": (b"\xff\xfe\xfd", "cannot be read"),
    "zeros": (bytes(64), "cannot be read"),
    "an object of Python": ("rounds: !!python/object/apply:os.system ['touch made-by-a-file']\n", "cannot be read"),
    "a name of Python": ("rounds: !!python/name:os.system\n", "cannot be read"),
    "an unknown tag": ("rounds: !surprise 3\n", "cannot be read"),
    "a tag that does not fit": ("rounds: !!int three\n", "cannot be read"),
    "a tag of dates": ("rounds: !!timestamp never\n", "cannot be read"),
    "an alias of nothing": ("rounds: *nothing\n", "cannot be read"),
    "a list for a key": ("? [a]\n: 1\n", "cannot be read"),
    "nested without end": ("rounds: " + "[" * 5000 + "]" * 5000, "cannot be read"),
    "a list that contains itself": ("rounds: &a [*a]\n", "cannot be read"),
    "lists of lists of lists": (
        "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20)),
        "cannot be read",
    ),
    "a configuration of another run": ("rounds: 1\nseed: 3\n", "holds a run with another configuration"),
    "rounds that are a text": ("rounds: many\n", "rounds was 'many', now 1"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_that_is_none_or_of_another_run_is_named(copy: Callable[[str], Path], name: str) -> None:
    path = copy("finished")
    content, words = CONFIGS[name]
    (path / "config.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with refused(path, str(path), words):
        go_on(path)


HISTORIES = ["[1, 2]", "a text", "7", "{changes: 3}", "{changes: {a: b}}", "{changes: text}"]


@pytest.mark.parametrize("history", HISTORIES)
def test_a_history_that_is_none_is_named(copy: Callable[[str], Path], history: str) -> None:
    path = copy("training")
    file = path / "config.yaml"
    file.write_text(file.read_text().partition("\nhistory:")[0] + f"\nhistory: {history}\n")
    with refused(path, str(file), "history must be a group of keys, and its changes a list"):
        go_on(path)


# --- files of tensors ------------------------------------------------------------------------------------------------

Damage = Callable[[dict[str, Any]], Any]


def without(key: str) -> Damage:
    return lambda state: {name: value for name, value in state.items() if name != key}


def changed(key: str, change: Callable[[Any], Any]) -> Damage:
    return lambda state: {**state, key: change(state[key])}


def with_first(key: str, value: int | float) -> Damage:
    def change(column: Any) -> Any:
        column = column.clone()
        column[0] = value
        return column

    return changed(key, change)


POOLS: list[tuple[str, Damage, str]] = [
    ("labels missing", without("labels"), "labels must be int32 of shape (60,); got NoneType"),
    ("rounds missing", without("labelled_in_round"), "labelled_in_round must be int32"),
    ("nothing in it", lambda _: {}, "labelled_in_round must be int32"),
    (
        "a list for labels",
        changed("labels", lambda labels: labels.tolist()),
        "labels must be int32 of shape (60,); got",
    ),
    ("floats", changed("labels", lambda labels: labels.float()), "got torch.float32"),
    ("int64", changed("labelled_in_round", lambda rounds: rounds.long()), "got torch.int64"),
    ("booleans", changed("labels", lambda labels: labels > 0), "got torch.bool"),
    ("another pool", changed("labels", lambda labels: labels[:-1]), "this pool has 60 samples"),
    ("two axes", changed("labels", lambda labels: labels[None]), "has shape (1, 60)"),
    ("no sample", changed("labelled_in_round", lambda rounds: rounds[:0]), "has shape (0,)"),
    ("no axis", changed("labelled_in_round", lambda rounds: rounds[0]), "has shape ()"),
    ("a label too large", lambda s: {**s, "labels": torch.where(s["labels"] >= 0, 3, -1).int()}, "with the label 3"),
    ("a label below -1", with_first("labels", -7), "with the label -7"),
    ("a round below -2", with_first("labelled_in_round", -9), "sample 0 is saved as labelled in round -9"),
    ("labels without rounds", changed("labelled_in_round", lambda one: torch.full_like(one, -1)), "in round -1 with"),
    ("rounds without labels", changed("labels", lambda labels: torch.full_like(labels, -1)), "with the label -1"),
    ("a list", lambda state: [state], "it holds a list, not a dictionary"),
    ("a tensor", lambda state: state["labels"], "it holds a Tensor, not a dictionary"),
    ("a number", lambda state: 3, "it holds a int, not a dictionary"),
]


@pytest.mark.parametrize(("name", "damage", "words"), POOLS, ids=[name for name, *_ in POOLS])
@pytest.mark.parametrize("kind", ["training", "finished"])
def test_a_pool_that_is_not_this_runs_is_named(
    copy: Callable[[str], Path], kind: str, name: str, damage: Damage, words: str
) -> None:
    path = copy(kind)
    file = path / ("round_00" if kind == "training" else "round_01") / "pool.pt"
    torch.save(damage(torch.load(file, weights_only=True)), file)
    with refused(path, str(file), words):
        go_on(path)


STATISTICS: list[tuple[str, Damage, str]] = [
    ("nothing in it", lambda _: {}, "KeyError: 'num_samples'"),
    ("visits missing", without("visits"), "KeyError: 'visits'"),
    ("a column missing", without("uncertainty_mean"), "KeyError: 'uncertainty_mean'"),
    ("another alpha", changed("alpha", lambda _: 0.5), "alpha = 0.5"),
    ("another pool", changed("num_samples", lambda _: 61), "statistics.pt does not hold"),
    (
        "a short column",
        changed("inconsistency_mean", lambda one: one[:-1]),
        "torch.float32 of shape (59,)",
    ),
    ("one number for all", changed("uncertainty_mean", lambda one: one[0]), "got torch.float32 of shape ()"),
    ("a number of Python", changed("uncertainty_mean", lambda _: 0.5), "got 0.5"),
    ("float64", changed("uncertainty_variance", lambda one: one.double()), "got torch.float64"),
    ("a NaN", with_first("uncertainty_mean", float("nan")), "the saved uncertainty_mean must be finite"),
    (
        "an infinity",
        with_first("inconsistency_variance", float("inf")),
        "inconsistency_variance must be finite",
    ),
    ("visits below 0", with_first("visits", -1), "visits at least 0"),
    (
        "visits that are floats",
        changed("visits", lambda visits: visits.float()),
        "visits must be torch.int32",
    ),
]


@pytest.mark.parametrize(("name", "damage", "words"), STATISTICS, ids=[name for name, *_ in STATISTICS])
def test_statistics_that_are_not_this_runs_are_named(
    copy: Callable[[str], Path], name: str, damage: Damage, words: str
) -> None:
    path = copy("continued")
    file = path / "round_00" / "statistics.pt"
    torch.save(damage(torch.load(file, weights_only=True)), file)
    with refused(path, str(file), words):
        go_on(path, CONTINUED)


FINALS: list[tuple[str, Damage, str]] = [
    ("nothing in it", lambda _: {}, "KeyError: 'state_dict'"),
    (
        "no weights",
        lambda state: {**state, "current_model_state": {}, "state_dict": {}},
        "Missing key(s) in state_dict",
    ),
    ("weights that are a list", lambda state: {**state, "current_model_state": [], "state_dict": []}, "TypeError"),
    ("weights that are nothing", changed("current_model_state", lambda _: None), "final.ckpt does not hold"),
    (
        "weights of another shape",
        changed("current_model_state", lambda one: {name: value.flatten()[:1] for name, value in one.items()}),
        "final.ckpt does not hold",
    ),
    ("a layer more", changed("current_model_state", lambda one: {**one, "more": torch.ones(1)}), "Unexpected key(s)"),
]


@pytest.mark.parametrize(("name", "damage", "words"), FINALS, ids=[name for name, *_ in FINALS])
@pytest.mark.parametrize("kind", ["trained", "continued"])
def test_a_last_checkpoint_that_is_not_this_runs_is_named(
    copy: Callable[[str], Path], kind: str, name: str, damage: Damage, words: str
) -> None:
    path = copy(kind)
    file = path / "round_00" / "final.ckpt"
    torch.save(damage(torch.load(file, weights_only=True)), file)
    with refused(path, str(file), words):
        go_on(path, CONTINUED if kind == "continued" else SETTINGS)


@pytest.mark.parametrize(
    "damage", [without("callbacks"), changed("callbacks", lambda _: {}), changed("callbacks", lambda _: 3)]
)
def test_a_last_checkpoint_without_the_statistics_is_named(copy: Callable[[str], Path], damage: Damage) -> None:
    path = copy("trained")
    file = path / "round_00" / "final.ckpt"
    torch.save(damage(torch.load(file, weights_only=True)), file)
    with refused(path, str(file), "does not hold what this run needs of it"):
        go_on(path)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def headless(path: Path) -> None:
    path.write_bytes(path.read_bytes()[100:])


def flipped(path: Path) -> None:
    flip_a_bit(path)


def a_text(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\n")


def a_plain_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"labels": [1]}))


def an_empty_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w"):
        pass


def another_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"")


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_trap(path: Path) -> None:
    torch.save({"labels": Trap()}, path)


def a_trap_of_the_old_format(path: Path) -> None:
    torch.save({"labels": Trap()}, path, _use_new_zipfile_serialization=False)


def a_bare_trap(path: Path) -> None:
    path.write_bytes(pickle.dumps(Trap()))


def a_whole_network(path: Path) -> None:
    torch.save(torch.nn.Linear(1, 1), path)


OF_BYTES = [
    *(empty, torn, headless, flipped, a_text, a_plain_pickle, an_empty_archive, another_archive, a_directory),
    *(a_trap, a_trap_of_the_old_format, a_bare_trap, a_whole_network),
]
FILES = [("training", "round_00/pool.pt"), ("trained", "round_00/final.ckpt"), ("continued", "round_00/statistics.pt")]


@pytest.mark.parametrize("damage", OF_BYTES)
@pytest.mark.parametrize(("kind", "name"), FILES, ids=[name for _, name in FILES])
def test_a_file_of_tensors_that_is_none_is_named_and_not_run(
    copy: Callable[[str], Path], kind: str, name: str, damage: Callable[[Path], None]
) -> None:
    path = copy(kind)
    damage(path / name)
    with refused(path, str(path / name), "cannot be read"):
        go_on(path, CONTINUED if kind == "continued" else SETTINGS)


def test_the_traps_are_ones_that_spring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the tests above could not fail."""
    monkeypatch.chdir(tmp_path)
    for trap in (a_trap, a_trap_of_the_old_format):
        trap(tmp_path / "trap")
        torch.load(tmp_path / "trap", weights_only=False)
        Path(MADE).unlink()


# --- files in place of directories, and the reverse ------------------------------------------------------------------

OTHER_KINDS = [
    ("finished", "config.yaml", "config.yaml"),
    ("finished", "rounds.jsonl", "rounds.jsonl"),
    ("trained", "round_00/state.json", "state.json"),
]


@pytest.mark.parametrize(("kind", "name", "words"), OTHER_KINDS)
def test_a_directory_for_a_file_is_named(copy: Callable[[str], Path], kind: str, name: str, words: str) -> None:
    path = copy(kind)
    a_directory(path / name)
    with refused(path, words):
        go_on(path)


def test_a_file_for_a_round_is_named(copy: Callable[[str], Path]) -> None:
    path = copy("training")
    shutil.rmtree(path / "round_00")
    (path / "round_00").write_text("a file")
    with refused(path, "round_00"):
        go_on(path)


def test_a_file_for_a_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with refused(tmp_path, str(tmp_path / "run")):
        run(tmp_path / "run", make_trainer=no_trainer)


def test_a_missing_pool_is_named(copy: Callable[[str], Path]) -> None:
    path = copy("continued")
    (path / "round_01" / "pool.pt").unlink()
    (path / "round_00" / "final.ckpt").unlink()
    with refused(path, str(path / "round_00" / "final.ckpt"), "is missing, but the run cannot go on without it"):
        go_on(path, CONTINUED)


# --- checkpoints from within a round ---------------------------------------------------------------------------------


def rewritten(**changes: Any) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        torch.save({name: value for name, value in {**content, **changes}.items() if value is not ABSENT}, path)

    return damage


def a_list(path: Path) -> None:
    torch.save([1, 2], path)


CHECKPOINTS: list[Callable[[Path], None]] = [
    *OF_BYTES,
    a_list,
    *(rewritten(**{"assl_lightning": value}) for value in (ABSENT, None, 3, [], {}, {"format": 1}, {"format": "1"})),
    *(rewritten(**{name: ABSENT}) for name in ("state_dict", "optimizer_states", "loops", "callbacks", "global_step")),
]


@pytest.mark.parametrize("number", range(len(CHECKPOINTS)))
def test_a_checkpoint_that_is_none_is_passed_over_with_a_warning(
    copy: Callable[[str], Path], caplog: pytest.LogCaptureFixture, number: int
) -> None:
    path = copy("training")
    older, newest = sorted((path / "round_00" / "resume").iterdir())
    CHECKPOINTS[number](newest)
    before = contents(path)
    with caplog.at_level(logging.WARNING, "assl_lightning"):
        assert RunDirectory(path).checkpoints(0).last() == older
    assert f"{newest} is passed over" in caplog.text
    assert contents(path) == before
    assert not Path(MADE).exists()


NAMES = ["step_abc.ckpt", "step_.ckpt", "step_8.ckpt", "step_00000010.ckpt.bak", "step_-0000010.ckpt", "step_1e10.ckpt"]


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_of_another_name_is_passed_over_and_moves_no_other(
    copy: Callable[[str], Path], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    path = copy("training")
    older, newest = sorted((path / "round_00" / "resume").iterdir())
    shutil.copy(older, older.parent / name)
    directory = RunDirectory(path)
    with caplog.at_level(logging.WARNING, "assl_lightning"):
        assert directory.checkpoints(0).last() == newest
    assert f"{older.parent / name} is passed over" in caplog.text
    directory.checkpoints(0).keep_newest(8)
    assert older.exists()
    assert newest.exists()


@pytest.mark.e2e
def test_a_directory_with_the_name_of_a_checkpoint_does_not_end_the_run(copy: Callable[[str], Path]) -> None:
    path = copy("training")
    (path / "round_00" / "resume" / "step_00000001.ckpt").mkdir()
    RunDirectory(path).checkpoints(0).keep_newest(8)
    assert first_step_of(path) == 8
    assert len(read_records(path)) == 2


# --- at random -------------------------------------------------------------------------------------------------------

EVERYTHING = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@EVERYTHING
@given(content=JSON)
def test_whatever_stands_for_a_record_is_a_record_or_named(content: object) -> None:
    problem = problem_of(lambda: record_of(content, "rounds.jsonl, line 1"))
    assert problem is None or problem.startswith("rounds.jsonl, line 1")


@EVERYTHING
@given(place=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
def test_a_byte_that_was_changed_anywhere_in_a_file_of_tensors_is_noticed(
    runs: Path, tmp_path: Path, place: float, bits: int
) -> None:
    """Or it lies in what the format does not use, and the tensors are the same."""
    content = bytearray((runs / "finished" / "round_01" / "pool.pt").read_bytes())
    content[int(place * len(content))] ^= bits
    (tmp_path / "round_01").mkdir(exist_ok=True)
    file = tmp_path / "round_01" / "pool.pt"
    file.write_bytes(content)
    good = RunDirectory(runs / "finished").load_tensors(1, "pool.pt")
    problem = problem_of(lambda: RunDirectory(tmp_path).load_tensors(1, "pool.pt"))
    if problem is None:
        found = RunDirectory(tmp_path).load_tensors(1, "pool.pt")
        assert all(torch.equal(found[name], value) for name, value in good.items())
    else:
        assert problem.startswith(str(file))


@EVERYTHING
@given(content=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_whatever_stands_in_config_yaml_is_a_dictionary_or_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    problem = problem_of(lambda: read_config(tmp_path))
    assert problem is None or problem.startswith(str(tmp_path / "config.yaml"))
