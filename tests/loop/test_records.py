from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from assl_lightning.base.run_files import round_directory
from assl_lightning.loop.records import (
    RoundRecord,
    complete_records,
    read_config,
    read_records,
    record_of,
    trained_records,
    with_later_keys,
    without_query,
    write_record,
)
from assl_lightning.loop.settings import KEYS as SETTING_KEYS

RECORD = RoundRecord(
    round=0,
    labels=10,
    unlabelled=90,
    steps=5,
    test_accuracy_ema=0.5,
    test_accuracy_raw=0.25,
    coverage=1.0,
    queried=[4, 2],
    seconds={"train": 1.5},
)


def test_records_come_back_in_order_one_line_each(tmp_path: Path) -> None:
    second = RoundRecord(1, 12, 88, 5, 0.75, 0.5)
    write_record(tmp_path, RECORD)
    write_record(tmp_path, second)
    assert read_records(tmp_path) == [RECORD, second]
    lines = (tmp_path / "rounds.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert (
        first.items()
        >= {
            "round": 0,
            "labels": 10,
            "test_accuracy_ema": 0.5,
            "test_accuracy_raw": 0.25,
            "queried": [4, 2],
            "seconds": {"train": 1.5},
        }.items()
    )
    assert json.loads(lines[1])["coverage"] is None
    again = replace(second, labels=13)
    write_record(tmp_path, again)  # the last round of a finished run that gets more rounds
    assert read_records(tmp_path) == [RECORD, again]


def test_a_line_without_the_fields_that_came_later_is_read(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    content = json.loads((tmp_path / "rounds.jsonl").read_text())
    later = ("test_balanced_accuracy_ema", "test_balanced_accuracy_raw", "test_images", "queried_labels")
    for name in (*later, "candidates", "pick_probabilities"):
        del content[name]
    (tmp_path / "rounds.jsonl").write_text(json.dumps(content) + "\n")
    assert read_records(tmp_path) == [RECORD]


def test_the_probabilities_of_the_picks_come_back_to_the_last_bit(tmp_path: Path) -> None:
    record = replace(RECORD, drawn_at_random=1, candidates=3, pick_probabilities=[1 / 3])
    write_record(tmp_path, record)
    assert read_records(tmp_path) == [record]


@pytest.mark.parametrize(("found", "candidates"), [([0.5], 9), ([0.5] * 3, 9), ([0.5] * 2, 1), ([0.5] * 2, None)])
def test_probabilities_of_other_picks_are_refused(found: list[float], candidates: int | None) -> None:
    content = asdict(replace(RECORD, candidates=candidates, pick_probabilities=found))
    message = f"as many as the 2 samples that the strategy picked, .* got {len(found)} and {candidates}"
    with pytest.raises(ValueError, match=message):
        record_of(content, "there")


def test_a_directory_without_records_has_none(tmp_path: Path) -> None:
    assert read_records(tmp_path) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"round": 1', "line 2 is not JSON"),
        ('{"round": 1}', "line 2 is not the record of a round; it needs the keys"),
        ("[]", "line 2 is not the record of a round"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str, message: str) -> None:
    write_record(tmp_path, RECORD)
    with (tmp_path / "rounds.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=message):
        read_records(tmp_path)


def test_a_round_that_is_missing_is_noticed(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    write_record(tmp_path, RoundRecord(2, 12, 88, 5, 0.75, 0.5))
    with pytest.raises(ValueError, match="line 2 must be the record of round 1, but is that of round 2"):
        read_records(tmp_path)


# --- where things lie ------------------------------------------------------------------------------------------------


def test_a_round_has_a_directory_of_two_digits_or_more(tmp_path: Path) -> None:
    names = [round_directory(tmp_path, number).relative_to(tmp_path).as_posix() for number in (0, 10, 100)]
    assert names == ["round_00", "round_10", "round_100"]


def test_the_records_of_a_run_that_has_rounds_left_are_not_complete(tmp_path: Path) -> None:
    assert complete_records(tmp_path, rounds=0) == ()
    records = RECORD, RoundRecord(1, 12, 88, 5, 0.75, 0.5)
    for record in records:
        write_record(tmp_path, record)
    assert complete_records(tmp_path, rounds=1) == records
    assert complete_records(tmp_path, rounds=2) == ()


# --- the configuration -----------------------------------------------------------------------------------------------


def by_omegaconf(run_dir: Path) -> Any:
    return OmegaConf.to_container(OmegaConf.load(run_dir / "config.yaml"), resolve=True)


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="$"), min_size=1)
    | st.sampled_from(
        ["1e-3", "5.0e-05", "1_0", "0x10", "010", "1:30", "2024-01-01", "null", "no", "on", "~", "", " a: "]
    )
)
# not a setting, which earlier versions had at the top and which is read from there into its group
KEYS = st.text(st.characters(categories=["Ll"]), min_size=1).filter(lambda key: key not in SETTING_KEYS)
CONFIGS = st.dictionaries(
    KEYS, st.recursive(LEAVES, lambda node: st.lists(node) | st.dictionaries(KEYS, node), max_leaves=8), min_size=1
)


@settings(max_examples=40)
@given(CONFIGS)
def test_a_configuration_comes_back_as_it_was_written(config: dict[str, Any]) -> None:
    with TemporaryDirectory() as directory:
        (Path(directory) / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)), encoding="utf-8")
        assert repr(read_config(Path(directory))) == repr(config)


@pytest.mark.parametrize(
    "value",
    [
        *("5.0e-05", "1e-3", "-1E+3", "1_000e2", "1.0e5", "1.e-3", "1e", "e5", ".5", "-.inf", "1_000", "0x1F", "1e5x"),
        *("2024-01-01", "12:30:45", "null", "~", "yes", "[1e-3, null, '1e-3', x]", "{a: 1e-4, b: []}", "'1e-3'"),
    ],
)
def test_a_value_written_by_hand_is_read_as_omegaconf_reads_it(tmp_path: Path, value: str) -> None:
    (tmp_path / "config.yaml").write_text(f"lr: {value}\n")
    assert repr(read_config(tmp_path)) == repr(by_omegaconf(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1\n", r"config\.yaml cannot be read \(.*\); restore it, or leave it out"),
        (b"a: \xff\n", r"config\.yaml cannot be read \(.*\); restore it, or leave it out"),
        (b"", r"config\.yaml is not the configuration of a run; restore it, or leave the directory out"),
        (b"{}\n", r"config\.yaml is not the configuration of a run"),
        (b"- 1\n", r"config\.yaml is not the configuration of a run"),
        (None, r"config\.yaml cannot be read \(.*No such file.*\)"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        read_config(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_round_that_waits_for_its_labels_is_trained_and_not_complete(tmp_path: Path) -> None:
    second = replace(RECORD, round=1, labels=12, test_accuracy_ema=0.75, queried=[7])
    write_record(tmp_path, RECORD)
    assert trained_records(tmp_path, 2) == [RECORD]
    write_state(tmp_path, "training", None)
    assert trained_records(tmp_path, 2) == [RECORD]
    for state in ("trained", "waiting"):
        write_state(tmp_path, state, second)
        assert trained_records(tmp_path, 2) == [RECORD, second]
        assert read_records(tmp_path) == [RECORD]


def test_the_last_round_of_a_run_that_is_extended_is_told_once(tmp_path: Path) -> None:
    last, asking = (replace(RECORD, round=1, queried=queried) for queried in ([], [7]))
    for record in (RECORD, last):
        write_record(tmp_path, record)
    write_state(tmp_path, "waiting", asking)
    assert trained_records(tmp_path, 2) == [RECORD, asking]  # it is to have one round more
    assert trained_records(tmp_path, 1) == [RECORD, last]  # it was told to end there


def test_the_record_of_a_last_round_asks_for_nothing() -> None:
    asked = replace(RECORD, queried_labels=[1, 0], drawn_at_random=1, seconds={"train": 1.5, "acquire": 2, "label": 3})
    asked = replace(asked, candidates=9, pick_probabilities=[0.25])
    assert without_query(asked) == replace(RECORD, queried=[], queried_labels=[], drawn_at_random=0)


def write_state(run_dir: Path, state: str, record: RoundRecord | None) -> None:
    (run_dir / "round_01").mkdir(exist_ok=True)
    content = {"state": state} if record is None else {"state": state, "record": asdict(record)}
    (run_dir / "round_01" / "state.json").write_text(json.dumps(content))


def test_a_run_that_began_before_there_were_a_balanced_head_and_a_teacher_has_none() -> None:
    for name in ("AdaMatch", "FixMatch", "FlexMatch", "FreeMatch", "SoftMatch"):
        module = {"_target_": f"assl_lightning.learning.{name}", "lambda_u": 1.0}
        found = with_later_keys({"algorithm": {"module": module}})
        assert found["algorithm"] == {"module": {**module, "balanced_head": False, "teacher": "student"}}


def test_a_run_that_began_before_the_trainer_had_keys_of_speed_had_none_of_them() -> None:
    trainer = {"_target_": "own.Trainer", "devices": 1}
    assert with_later_keys({"trainer": trainer})["trainer"] == {
        **trainer,
        "matmul_precision": "highest",
        "memory_format": "auto",
        "cuda_graph": False,
    }


def test_what_a_class_did_not_take_yet_when_a_run_began_is_as_if_it_had_been_said() -> None:
    strategy = {"_target_": "assl_lightning.acquisition.Herding", "trust": 1.0}
    config = {"acquisition": {"name": "herding", "strategy": strategy}, "seed": 0}
    assert with_later_keys(config) == {
        "initial_features": "network",
        "warm_up": None,
        "stop": None,
        "repeat_round": None,
        "schedule": None,
        "cost_per_label": None,
        "acquisition": {"name": "herding", "strategy": {**strategy, "class_quota": 0.0}},
        "seed": 0,
    }
    said = {"acquisition": {"strategy": {**strategy, "class_quota": 0.5}}, "warm_up": {"steps": 1}}
    absent = dict.fromkeys(("stop", "repeat_round", "schedule", "cost_per_label"))
    assert with_later_keys(said) == {**said, "initial_features": "network", **absent}
    assert "class_quota" not in strategy
