"""Records of a run: config.yaml, the line of each complete round, and the state of the round under way."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from math import isnan
from pathlib import Path
from typing import Any, Literal, cast, get_args

import yaml  # type: ignore[import-untyped]

from assl_lightning.base.arguments import is_integer, is_number
from assl_lightning.base.atomic import write_text
from assl_lightning.base.run_files import CONFIG, POOL, RECORDS, STATE, round_directory
from assl_lightning.base.words import one_line, shortened
from assl_lightning.loop.settings import in_groups
from assl_lightning.loop.targets import with_present_targets
from assl_lightning.stopping.agreement import Agreement

State = Literal["training", "trained", "waiting"]
"""The state of an incomplete round; "waiting": for labels."""

CLASSES = "classes"
"""Key of config.yaml: the names of the classes, where the data gives them and not the configuration."""

PROVENANCE_KEYS = ("environment", "history", "contents", CLASSES)
"""Keys of config.yaml that tell the origin of a run, and are no settings."""

COMMAND = "command"
"""Key under history in config.yaml: the command that goes on with the run, as it was typed at the last change."""

FORMER_KEYS = ("acquisition.requires", "algorithm.produces")
"""Keys that configurations had once; a run made with them goes on, and what they say is ignored."""

LATER_KEYS: Mapping[str, Any] = {
    "initial_features": "network",
    **dict.fromkeys(("warm_up", "stop", "repeat_round", "schedule", "cost_per_label")),
}
"""Keys that configurations did not have at first, and their values in a run that does not say them."""

LATER_TRAINER_KEYS: Mapping[str, Any] = {"matmul_precision": "highest", "memory_format": "auto", "cuda_graph": False}
"""The same of keys under trainer, whatever its class."""

_PSEUDO_LABELLING = ("AdaMatch", "FixMatch", "FlexMatch", "FreeMatch", "SoftMatch")

LATER_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "assl_lightning.acquisition.Herding": {"class_quota": 0.0},
    "assl_lightning.data.load_dataset": {"fields": None},
    "assl_lightning.data.load_huggingface": {"data_files": None, "images": "memory"},
    "assl_lightning.people.People": {"notify": None},
    **{f"assl_lightning.learning.{name}": {"balanced_head": False, "teacher": "student"} for name in _PSEUDO_LABELLING},
}
"""`_target_` of a class → arguments that it did not have at first, and their values in a run that does not say them."""

STOPPING_KEYS = ("stop", "repeat_round", "cost_per_label")
"""Keys, with all below them, that say when a run ends and what it costs, and change none of its rounds."""

KEYS_WITHOUT_EFFECT = (
    *FORMER_KEYS,
    *("run_dir", "trainer.logger", "trainer.log_every_n_steps", "checkpoint", "change_devices"),
    *("data.unreadable", "data.source.unreadable", "data.source.cache"),
    *("data.source.images", "data.source.download", "data.num_workers"),
)
"""Keys, with all below them, that do not change a run's results; pool.pt tells which images were excluded."""


@dataclass(frozen=True)
class RoundRecord:
    """One round of a run. Accuracies lie in [0, 1]; indices are pool indices; times are seconds."""

    round: int
    labels: int  # number of labels that the round trained on
    unlabelled: int  # number of samples without a label during the training
    steps: int  # optimizer steps; fewer than the setting where the algorithm stopped early
    test_accuracy_ema: float  # of the averaged weights at the last step; equal to raw where there are none
    test_accuracy_raw: float  # of the weights at the last step
    test_balanced_accuracy_ema: float | None = None  # mean over the classes of the accuracy within each
    test_balanced_accuracy_raw: float | None = None
    test_images: int | None = None  # number of test images; None in older records
    num_classes: int | None = None  # number of classes; None in older records
    coverage: float | None = None  # share of the unlabelled samples that training visited; None without statistics
    mask_rate: float | None = None  # mean weight of the pseudo-labels when it was last logged; None without them
    queried: list[int] = field(default_factory=list)  # in pick order; empty in the last round
    queried_labels: list[int] = field(default_factory=list)  # the oracle's answer to each; −1 without one
    skipped_steps: int = 0  # steps whose gradients were not finite, under `non_finite: skip`
    drawn_at_random: int = 0  # queried samples without a score: too few were visited, or `unvisited: random`
    candidates: int | None = None  # samples that the strategy drew from; None without `pick_probabilities`
    pick_probabilities: list[float] = field(default_factory=list)
    """With what probability each pick but those at random was drawn among the candidates left; empty: not known."""
    seconds: dict[str, float] = field(default_factory=dict)  # by part: train, test, acquire, label
    agreement: dict[str, float] = field(default_factory=dict)  # `Agreement` with the round before; empty: not known
    floor: dict[str, float] = field(default_factory=dict)  # `Agreement` with a second training on the same labels
    stopped: dict[str, Any] | None = None
    """A rule ended the run here: `rule`, the `rounds` that were asked for, `reason`, and `overruled` if it went on."""

    def is_stopped(self, rounds: int) -> bool:
        """True if a rule ended the run here, when it was to make `rounds` acquisitions, and nothing was asked since."""
        if self.stopped is None or self.stopped.get("overruled") or self.queried:
            return False
        return bool(self.stopped["rounds"] == rounds > self.round)

    def overruled(self) -> RoundRecord:
        """Return the record of a run that goes on although a rule has ended it here."""
        return self if self.stopped is None else replace(self, stopped={**self.stopped, "overruled": True})


def with_later_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's configuration with the keys, and the arguments of classes, that it was begun without."""
    found = {**LATER_KEYS, **_with_later_arguments(config)}
    if isinstance(found.get("trainer"), Mapping):
        found["trainer"] = {**LATER_TRAINER_KEYS, **found["trainer"]}
    return found


def _with_later_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        key: _with_later_arguments(value) if isinstance(value, Mapping) else value for key, value in config.items()
    }
    return {**LATER_ARGUMENTS.get(str(config.get("_target_")), {}), **found}


def command_of(config: Mapping[str, Any]) -> str:
    """Return the command that goes on with a run of this config.yaml; a description where it is unknown."""
    history = config.get("history")
    command = history.get(COMMAND) if isinstance(history, dict) else None
    return command if isinstance(command, str) else "the command that began it"


def write_record(run_dir: Path, record: RoundRecord) -> None:
    """Write the line of a complete round, or replace it."""
    path = run_dir / RECORDS
    before = path.read_text().splitlines()[: record.round] if path.exists() else []
    write_text(path, "".join(f"{line}\n" for line in [*before, json.dumps(asdict(record))]))


def read_records(run_dir: Path) -> list[RoundRecord]:
    """Read the records of the complete rounds of a run, in order; none where there is no file yet."""
    path = run_dir / RECORDS
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text ({error}); restore the file or remove the run") from None
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path}, line {number} is not JSON ({error}); restore the file or remove the run"
            ) from None
        record = record_of(content, f"{path}, line {number}")
        if record.round != number - 1:
            raise ValueError(
                f"{path}, line {number} must be the record of round {number - 1}, but is that of round "
                f"{record.round}; restore the file or remove the run"
            )
        records.append(record)
    return records


def record_of(content: object, where: str) -> RoundRecord:
    """Make a record of a plain dictionary; errors name `where` it was read."""
    names = {entry.name for entry in fields(RoundRecord)}
    needed = {entry.name for entry in fields(RoundRecord) if entry.default is entry.default_factory is MISSING}
    if not isinstance(content, dict) or not needed <= content.keys() <= names:
        raise ValueError(
            f"{where} is not the record of a round; it needs the keys {', '.join(sorted(needed))} and may have "
            f"{', '.join(sorted(names - needed))}. Restore the file or remove the run"
        )
    for entry in fields(RoundRecord):
        expected, is_right = _VALUES[_NARROWER.get(entry.name, str(entry.type))]
        if entry.name in content and not is_right(content[entry.name]):
            raise ValueError(
                f"{where}: {entry.name} must be {expected}; got {shortened(repr(content[entry.name]))}. Restore the "
                f"file or remove the run"
            )
    record = RoundRecord(**content)
    if record.queried_labels and len(record.queried_labels) != len(record.queried):
        raise ValueError(
            f"{where}: queried_labels must be as many as the {len(record.queried)} queried; got "
            f"{len(record.queried_labels)}. Restore the file or remove the run"
        )
    drawn, known = len(record.queried) - record.drawn_at_random, len(record.pick_probabilities)
    if known and not known == drawn <= (record.candidates or 0):
        raise ValueError(
            f"{where}: pick_probabilities must be as many as the {drawn} samples that the strategy picked, and "
            f"candidates at least as many; got {known} and {record.candidates}. Restore the file or remove the run"
        )
    return record


def _is_count(value: object) -> bool:
    return is_integer(value, 0)


def _is_share(value: object) -> bool:
    is_unknown = isinstance(value, float) and isnan(value)
    return is_unknown or (is_number(value) and 0 <= value <= 1)


def _is_agreement(value: object) -> bool:
    if not isinstance(value, dict) or not all(map(is_number, value.values())):
        return False
    try:
        Agreement.of(value)
    except ValueError:
        return False
    return True


def _is_stop(value: object) -> bool:
    if value is None:
        return True
    texts = [value.get(name) for name in ("rule", "reason")] if isinstance(value, dict) else [None]
    return all(isinstance(text, str) for text in texts) and _is_count(cast(dict[str, Any], value).get("rounds"))


_VALUES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "int": ("an integer of at least 0", _is_count),
    "int | None": ("an integer of at least 0, or null", lambda value: value is None or _is_count(value)),
    "float": ("a number in [0, 1], or NaN where it is not known", _is_share),
    "float | None": ("a number in [0, 1], NaN or null", lambda value: value is None or _is_share(value)),
    "list[int]": (
        "a list of integers of at least 0, each once",
        lambda value: isinstance(value, list) and all(map(_is_count, value)) and len(set(value)) == len(value),
    ),
    "list[float]": (
        "a list of numbers in (0, 1]",
        lambda value: isinstance(value, list) and all(is_number(one) and 0 < one <= 1 for one in value),
    ),
    "labels": (
        "a list of integers of at least -1",
        lambda value: isinstance(value, list) and all(is_integer(label, -1) for label in value),
    ),
    "dict[str, float]": (
        "a dictionary of finite numbers",
        lambda value: isinstance(value, dict) and all(map(is_number, value.values())),
    ),
    "stopped": ("null, or have the texts rule and reason, and a number of rounds", _is_stop),
    "agreement": ("empty, or have the fields of an Agreement, with at least 1 image", _is_agreement),
}
"""A field's type, or its kind in `_NARROWER` → a description of its values, and the check of a value."""

_NARROWER = {"queried_labels": "labels", "agreement": "agreement", "floor": "agreement", "stopped": "stopped"}


def write_state(run_dir: Path, number: int, state: State, record: RoundRecord | None = None) -> None:
    """Write the state of an incomplete round; `trained` and `waiting` come with its record so far."""
    content = {"state": state} if record is None else {"state": state, "record": asdict(record)}
    write_text(round_directory(run_dir, number) / STATE, json.dumps(content))


def read_state(run_dir: Path, number: int) -> tuple[State, RoundRecord | None]:
    """Read the state of an incomplete round, and its record so far."""
    path = round_directory(run_dir, number) / STATE
    if not path.exists():
        return "training", None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); remove it, and its round is trained again") from None
    state = content.get("state") if isinstance(content, dict) else None
    if state not in get_args(State):
        raise ValueError(
            f"{path} must give a state, one of {', '.join(get_args(State))}; got {state!r}. Remove it, and its round "
            f"is trained again"
        )
    if state == "training":
        return "training", None
    record = record_of(content.get("record"), str(path))
    if record.round != number:
        raise ValueError(
            f"{path} must hold the record of round {number}, but has that of round {record.round}; remove it, and its "
            f"round is trained again"
        )
    return cast(State, state), record


def complete_records(run_dir: Path, rounds: int) -> tuple[RoundRecord, ...]:
    """Read the `rounds` + 1 records of a run that has made `rounds` acquisitions; none of an unfinished run.

    Later records of an extended run are left out. A run that a rule ended has fewer, and is not unfinished.
    """
    records = read_records(run_dir)
    is_whole = len(records) > rounds or reason_of_end(run_dir, rounds) is not None
    return tuple(records[: rounds + 1]) if is_whole else ()


def reason_of_end(run_dir: Path, rounds: int) -> str | None:
    """Return why a rule ended a run before its `rounds` acquisitions; None where none did, or the run goes on.

    Raises:
        ValueError: a file is damaged.
    """
    records = read_records(run_dir)
    if not records or not records[-1].is_stopped(rounds) or read_state(run_dir, records[-1].round)[1] is not None:
        return None
    return str((records[-1].stopped or {})["reason"])


def trained_records(run_dir: Path, rounds: int) -> list[RoundRecord]:
    """Read the records of all trained rounds: the complete ones, and one that has yet to query or to get labels.

    Reports and messages show these. `rounds` is the number of acquisitions in the configuration: if it was raised, the
    last round of a finished run has yet to query, and its record is in state.json too.

    Raises:
        ValueError: a file is damaged.
    """
    records = read_records(run_dir)
    complete = num_complete(records, rounds)
    trained = read_state(run_dir, complete)[1]
    return records if trained is None else [*records[:complete], trained]


def num_complete(records: Sequence[RoundRecord], rounds: int) -> int:
    """Return the number of complete rounds of a run of `rounds` acquisitions.

    If `rounds` was raised, the last round of a finished run counts as incomplete: it has yet to query.
    """
    is_extended = bool(records) and not records[-1].queried and len(records) <= rounds
    return len(records) - is_extended


def round_under_way(run_dir: Path) -> int:
    """Return the number of the round under way; in a finished run the last one, which may query if more are asked for.

    Raises:
        ValueError: rounds.jsonl is damaged.
    """
    records = read_records(run_dir)
    has_next = (round_directory(run_dir, len(records)) / POOL).exists()
    must_query = bool(records) and not (records[-1].queried and has_next)
    return len(records) - must_query


def without_query(record: RoundRecord) -> RoundRecord:
    """Remove the query from a record, as the last round of a run has none."""
    seconds = {part: value for part, value in record.seconds.items() if part not in ("acquire", "label")}
    nothing: dict[str, Any] = {"queried": [], "queried_labels": [], "drawn_at_random": 0}
    return replace(record, **nothing, candidates=None, pick_probabilities=[], seconds=seconds)


def write_config(run_dir: Path, content: Mapping[str, Any]) -> None:
    """Write a run's config.yaml; its values are plain."""
    from omegaconf import OmegaConf  # imported here, as reading needs no such import

    write_text(run_dir / CONFIG, OmegaConf.to_yaml(OmegaConf.create(dict(content))))


class _ConfigLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Parser in C that reads plain values as OmegaConf does, in a tenth of the time."""


_ConfigLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _ConfigLoader.yaml_implicit_resolvers.items()
}
_ConfigLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


_ODD_CONTENT = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""Errors of the parser for tags that do not fit their values, such as !!int x, and for nesting without end."""


_DEEPEST, _MOST_GROUPS = 50, 100_000


def _check_size(content: object) -> None:
    """Raise if aliases or nesting make the content too large to walk through."""
    groups, left = 0, [(content, 1)]
    while left:
        node, depth = left.pop()
        if isinstance(node, (dict, list)):
            groups += 1
            if depth > _DEEPEST or groups > _MOST_GROUPS:
                raise ValueError(f"it is nested more than {_DEEPEST} deep, or has more than {_MOST_GROUPS:,} groups")
            left += [(child, depth + 1) for child in (node.values() if isinstance(node, dict) else node)]


def read_config(run_dir: Path) -> dict[str, Any]:
    """Read a run's config.yaml, whose values are plain, because a run resolves them before it writes them.

    Numbers and dates are read as by OmegaConf: 1e-3 is a number, and 2024-01-01 a text.

    Raises:
        ValueError: the file cannot be read, or holds no mapping.
    """
    path = run_dir / CONFIG
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _ConfigLoader)
        _check_size(content)
    except (yaml.YAMLError, OSError, *_ODD_CONTENT) as error:
        raise ValueError(f"{path} cannot be read ({one_line(error)}); restore it, or leave it out") from None
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} is not the configuration of a run; restore it, or leave the directory out")
    return in_groups({str(key): with_present_targets(value) for key, value in content.items()})
