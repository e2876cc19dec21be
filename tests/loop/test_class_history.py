"""The history of a run's classes, without a run."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from assl_lightning.base.run_files import CLASS_CHANGES
from assl_lightning.loop.class_history import ClassHistory, as_override, read_history, run_classes, write_history

CLASSES = ("ok", "dent", "scratch")
BEGUN = ClassHistory.begin(CLASSES)


def test_a_merge_takes_the_place_of_its_first_class_and_the_others_close_up() -> None:
    merged = BEGUN.add(["crack"], 1).merge(["crack", "dent"], "damage", 2)
    assert merged.names(0) == CLASSES
    assert merged.names(1) == (*CLASSES, "crack")
    assert merged.names() == ("ok", "damage", "scratch")
    assert merged.present_labels(1) == (0, 1, 2, 1)
    assert merged.former == {"dent": "damage", "crack": "damage"}


def test_what_was_renamed_and_then_merged_counts_as_the_last_of_it() -> None:
    history = BEGUN.rename("dent", "bump", 1).merge(["bump", "scratch"], "damage", 1)
    assert [history.resolve(name) for name in ("ok", "dent", "bump", "scratch", "damage", "other")] == [
        *("ok", "damage", "damage", "damage", "damage", "other")
    ]


def test_a_renaming_that_is_taken_back_keeps_what_was_said_in_between() -> None:
    history = BEGUN.rename("dent", "bump", 1).undo(2)
    assert history.names(1) == ("ok", "bump", "scratch")
    assert history.names() == CLASSES
    assert (history.resolve("dent"), history.resolve("bump")) == ("dent", "dent")
    assert history.present_labels(1) == (0, 1, 2)


def test_a_merge_that_is_taken_back_tells_its_classes_apart_again() -> None:
    history = BEGUN.merge(["dent", "scratch"], "damage", 1).add(["crack"], 1).undo(2)
    assert history.names(1) == ("ok", "damage", "crack")
    assert history.names() == (*CLASSES, "crack")
    assert history.resolve("dent") == "dent"
    assert history.present_labels(1) == (0, None, 3), "of damage only the ledger knows which it was"
    kept = BEGUN.merge(["dent", "scratch"], "dent", 1).undo(2)
    assert kept.present_labels(1) == (0, None), "a name that stays means less again"


def test_a_second_undo_takes_back_the_change_before() -> None:
    history = BEGUN.rename("ok", "good", 1).merge(["dent", "scratch"], "damage", 1).undo(1).undo(1)
    assert history.names() == CLASSES
    with pytest.raises(ValueError, match="no class was renamed or merged, so that there is nothing to take back"):
        history.undo(1)


def test_a_round_before_a_change_was_taken_back_trained_with_it() -> None:
    history = BEGUN.merge(["dent", "scratch"], "damage", 1).undo(3)
    assert [history.names(number) for number in range(4)] == [CLASSES, ("ok", "damage"), ("ok", "damage"), CLASSES]


@pytest.mark.parametrize(
    ("names", "advice"),
    [
        (("ok", "bump", "scratch"), "to rename one, python -m assl_lightning.classes 'my run' --rename dent=bump"),
        (("dent", "ok", "scratch"), "goes to the end: ask for 'data.source.class_names=[ok,dent,scratch]'"),
        (("ok", "crack", "dent", "scratch"), "ask for 'data.source.class_names=[ok,dent,scratch,crack]'"),
        (("ok", "dent"), "scratch is missing: ask for 'data.source.class_names=[ok,dent,scratch]'; to take it away, "),
        (("ok",), "dent, scratch are missing: ask for 'data.source.class_names=[ok,dent,scratch]'; to take one away, "),
        (("a", "b"), "to rename and merge some, python -m assl_lightning.classes 'my run' --rename OLD=NEW and"),
    ],
)
def test_classes_that_are_no_more_than_more_are_refused_with_what_to_do(names: tuple[str, ...], advice: str) -> None:
    with pytest.raises(ValueError, match="the run's classes are ok, dent, scratch, but ") as error:
        BEGUN.joining(names, Path("my run"))
    assert advice in str(error.value)


def test_who_asks_for_the_old_names_is_given_the_new_ones() -> None:
    with pytest.raises(
        ValueError, match=r"dent is bump since: ask for 'data\.source\.class_names=\[ok,bump,scratch\]'"
    ):
        BEGUN.rename("dent", "bump", 1).joining(CLASSES, Path("run"))


@pytest.mark.parametrize(
    "name", ["ok", "yes", "0010", "a, b", "it's", 'six"', "b\\", "[x]", "ü", "a b", "$x", "x=y", "'", "{a: b}"]
)
def test_classes_are_printed_as_the_command_line_takes_them(name: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (argument,) = shlex.split(as_override(["first", name]))
    (override,) = OverridesParser.create().parse_overrides([argument])
    values: Any = override.value()
    assert [str(value) for value in values] == ["first", name]


def test_new_classes_at_the_end_join() -> None:
    assert BEGUN.joining((*CLASSES, "crack", "hole"), Path("run")) == ("crack", "hole")
    assert BEGUN.joining(CLASSES, Path("run")) == ()


MERGED = BEGUN.merge(["dent", "scratch"], "damage", 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: BEGUN.rename("dnet", "bump", 1), "'dnet' is no class; the classes are ok, dent, scratch"),
        (lambda: MERGED.rename("dent", "bump", 1), "'dent' is no class any more, it is damage now; the classes are ok"),
        (lambda: BEGUN.rename("dent", "ok", 1), "ok is a class already; to make one class of the two, give --merge"),
        (lambda: BEGUN.rename("dent", " ", 1), "class_names must be texts that are not empty"),
        (lambda: BEGUN.merge(["dent", "dent"], "damage", 1), "a merge needs two classes, each once; got dent, dent"),
        (lambda: BEGUN.merge(["dent", "scratch"], "ok", 1), "name it among those to merge: dent,scratch,ok=ok"),
        (lambda: BEGUN.merge(CLASSES, "all", 1), "a merge must leave at least two classes; ok, dent, scratch are all"),
        (lambda: MERGED.add(["scratch"], 1), "scratch was a class before, and answers with this name count as damage"),
        (lambda: MERGED.joining(["ok", "damage", "dent"], Path("run")), "dent was a class before"),
    ],
)
def test_a_change_that_cannot_be_is_refused(change: object, message: str) -> None:
    assert callable(change)
    with pytest.raises(ValueError, match=r"\w") as error:
        change()
    assert message in str(error.value)


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_history(tmp_path) is None
    history = MERGED.add(["crack"], 2).undo(3)
    write_history(tmp_path, history)
    assert read_history(tmp_path) == run_classes(tmp_path) == history


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"format": 2, "changes": []}',
        '{"format": 1, "changes": []}',
        '{"format": 1, "changes": [{"kind": "begin", "names": ["a"]}]}',
        '{"format": 1, "changes": [{"kind": "begin", "names": ["a", "b"]}, {"kind": "begin", "names": ["c", "d"]}]}',
        '{"format":1,"changes": [{"kind": "begin", "names": ["a", "b"], "round": 9}, {"kind": "add", "names": ["c"]}]}',
        '{"format": 1, "changes": [{"kind": "undo"}]}',
        '{"format": 1, "changes": [{"kind": "rename", "names": ["a"], "to": "b", "round": 0}]}',
        '{"format": 1, "changes": [{"kind": "begin", "names": ["a", 5]}]}',
        '{"format": 1, "changes": [{"kind": "begin", "names": ["a"], "round": -1}]}',
    ],
)
def test_a_history_that_was_damaged_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / CLASS_CHANGES).write_text(content)
    with pytest.raises(ValueError, match="does not hold the classes of a run") as error:
        read_history(tmp_path)
    assert "restore it" in str(error.value)


def test_classes_that_have_not_changed_are_those_of_the_configuration(tmp_path: Path) -> None:
    assert run_classes(tmp_path) is None
    (tmp_path / "config.yaml").write_text(json.dumps({"data": {"source": {"class_names": ["a", "b"]}}}))
    assert run_classes(tmp_path) == ClassHistory.begin(["a", "b"])
    (tmp_path / "config.yaml").write_text(json.dumps({"data": {"source": {"root": "x"}}}))
    assert run_classes(tmp_path) is None
