"""People as the oracle: a round writes what to label and ends; the same command goes on with the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from assl_lightning.base.arguments import is_number, require_one_of
from assl_lightning.base.run_files import LEDGER
from assl_lightning.base.seeding import derive_key
from assl_lightning.base.shell import command
from assl_lightning.base.words import first_few
from assl_lightning.data.answers import Conflicts, Incoming, ResolvedLabel, name_of, resolve
from assl_lightning.data.contact_sheet import contact_sheet
from assl_lightning.data.pool import EXCLUDED, Answers, Corrections
from assl_lightning.data.rendition import rendition
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.loop.oracles import LabelRequest, Pending
from assl_lightning.loop.records import read_config
from assl_lightning.people.batch import (
    DIRECTORY,
    AskedSample,
    LabelBatch,
    find_batches,
    read_batch,
    write_batch,
    write_classes,
)
from assl_lightning.people.judging import ingest, unanswered
from assl_lightning.people.ledger import Ledger
from assl_lightning.people.returned import passed_over, read_returned

_NAMED = 5  # of the samples about which people disagree
_MAX_THUMBNAILS = 100

_UNKNOWN = -1


class LabellingTool(Protocol):
    """By what way people are asked and answer. All answers end in the run's ledger."""

    def check(self, class_names: Sequence[str]) -> None:
        """Raise, before anything is trained, where people could not be asked; ValueError or OSError."""
        ...

    def offer(self, batch: LabelBatch) -> str:
        """Put the batch before people, again and again if need be; the sentences that tell them what to do."""
        ...

    def collect(self, batch: LabelBatch) -> Sequence[Incoming]:
        """The answers by now, including those handed over before; empty for a tool that writes the ledger itself.

        Files of labels in the batch's directory are none of its business: they are read whatever the tool.
        """
        ...


class People:
    """An oracle that asks people, and does not wait for them.

    The first time it is asked it writes a batch (`labelling.batch`) into the directory of the round that is to train on
    the labels. As long as too few of the batch have an answer, or people disagree, the answer is `Pending`. What was
    answered of earlier batches since, corrections and answers that came late, goes along as `Answers.earlier`.

    Args:
        source: the pool's images, their names and the classes'.
        tool: by what way people answer.
        conflicts: what becomes of a sample of which people say different things; see `labelling.verdicts`.
        min_fraction: share of a batch, in (0, 1], that must be answered (labelled, skipped or bad) for the run to go
            on; the rest stays unlabelled, and is not asked for again in the round after.
        relabel_fraction: for each sample of a request, how many that have a label are asked for once more, ≥ 0; which,
            is drawn by `seed` among those that people labelled and that were not asked for again yet.
        seed: of these draws.
        show_predictions: whether people may see what the model takes an image for, on the page and in the table, which
            leads them to say the same.
        longest_side: pixels of an image that people look at; larger ones are shrunk.

    Raises ValueError where a value is not as said here, and what `tool.check` raises.
    """

    def __init__(
        self,
        source: PoolSource,
        tool: LabellingTool,
        *,
        conflicts: Conflicts = "error",
        min_fraction: float = 1.0,
        relabel_fraction: float = 0.0,
        seed: int = 0,
        show_predictions: bool = False,
        longest_side: int = 1024,
    ) -> None:
        require_one_of("conflicts", conflicts, Conflicts)
        for name, value, is_right, expected in (
            ("min_fraction", min_fraction, is_number(min_fraction) and 0 < min_fraction <= 1, "in (0, 1]"),
            (
                "relabel_fraction",
                relabel_fraction,
                is_number(relabel_fraction) and relabel_fraction >= 0,
                "at least 0",
            ),
            ("longest_side", longest_side, isinstance(longest_side, int) and longest_side >= 16, "at least 16 pixels"),
        ):
            if not is_right:
                raise ValueError(f"{name} must be {expected}; got {value!r}")
        tool.check(source.class_names)
        self._source = source
        self._tool = tool
        self._conflicts: Conflicts = conflicts
        self._min_fraction = min_fraction
        self._relabel_fraction = relabel_fraction
        self._seed = seed
        self._show_predictions = show_predictions
        self._longest_side = longest_side
        self._missing = {*source.absent.tolist(), *source.unreadable.tolist()}  # nobody can look at these

    def answer(self, request: LabelRequest) -> Answers | Pending:
        """The labels that people gave, where enough of them did; else what they have to do next."""
        nothing = request.index[:0]
        if not len(request.index):
            return Answers(nothing, nothing)
        if request.directory is None:
            raise ValueError("people need a directory to find the images in; give the request one")
        run_dir, directory = request.directory.parent, request.directory / DIRECTORY
        ledger = Ledger(run_dir / LEDGER)
        if not directory.exists():
            asked = self._asked(request)
            if not asked:
                return Answers(nothing, nothing)  # the images of all of them are gone
            self._write([*asked, *self._asked_again(request, ledger)], request, directory)
        batch = read_batch(directory)
        write_classes(batch)  # which may be others by now
        _check_same(request, batch)
        earlier = [one for one in find_batches(run_dir) if one.round < batch.round]
        for one in (*earlier, batch):
            self._check_indices(one)
        instructions = self._tool.offer(batch)
        self._collect(batch, ledger)
        return self._gather(batch, earlier, ledger, instructions)

    # ---- asking

    def _write(self, samples: Sequence[AskedSample], request: LabelRequest, directory: Path) -> None:
        directory.parent.mkdir(parents=True, exist_ok=True)
        index = torch.tensor([sample.index for sample in samples])
        shown = [self._show(sample.index) for sample in samples]
        named = [
            _renamed(sample, f"{place:04d}.{suffix}")
            for place, (sample, (suffix, _)) in enumerate(zip(samples, shown, strict=True))
        ]
        run_id, name = _identity(directory.parent.parent)
        batch = LabelBatch(
            directory=directory,
            run_id=run_id,
            name=name,
            round=request.round_number + 1,
            class_names=self._source.class_names,
            samples=tuple(named),
            show_predictions=self._show_predictions,
        )
        sheet = contact_sheet(self._source.pool_images[index[:_MAX_THUMBNAILS]])
        write_batch(batch, [content for _, content in shown], sheet)

    def _asked(self, request: LabelRequest) -> list[AskedSample]:
        columns = {"score": request.score, **request.parts}
        return [
            AskedSample(
                sample_id=name,
                index=index,
                image="",
                path=self._path(index),
                prediction=self._class_of(request.prediction, place),
                score=_value(columns["score"], place),
                parts={part: _value(values, place) for part, values in request.parts.items()},
            )
            for place, (index, name) in enumerate(zip(request.index.tolist(), request.sample_id, strict=True))
            if index not in self._missing
        ]

    def _asked_again(self, request: LabelRequest, ledger: Ledger) -> list[AskedSample]:
        """Samples with a label by people, by a draw that depends on the sample's name alone."""
        count = round(self._relabel_fraction * len(request.index))
        if not count:
            return []
        assert request.directory is not None
        earlier = [sample for batch in find_batches(request.directory.parent) for sample in batch.samples]
        asked_again = {sample.sample_id for sample in earlier if sample.again}
        trains = set(request.labelled.tolist()) - self._missing
        holds = resolve(ledger.active_answers(), self._conflicts)
        labelled = {
            sample.sample_id: sample
            for sample in earlier
            if sample.sample_id not in asked_again
            and sample.index in trains
            and _kind(holds, sample.sample_id) == "label"
        }
        drawn = sorted(labelled, key=lambda name: derive_key(self._seed, f"relabel:{name}"))[:count]
        parts = dict.fromkeys(request.parts)
        return [
            AskedSample(name, labelled[name].index, "", self._path(labelled[name].index), parts=parts, again=True)
            for name in drawn
        ]

    def _path(self, index: int) -> str | None:
        return str(self._source.paths[index]) if self._source.paths else None

    def _show(self, index: int) -> tuple[str, bytes]:
        path = self._source.paths[index] if self._source.paths else None
        return rendition(self._source.pool_images[torch.tensor([index])][0], path, self._longest_side)

    def _class_of(self, prediction: Tensor | None, place: int) -> str | None:
        if prediction is None or place >= len(prediction):
            return None
        return self._source.class_names[int(prediction[place])]

    # ---- gathering

    def _check_indices(self, batch: LabelBatch) -> None:
        """A batch must number its images as the run does, or a label would go to another image."""
        names = self._source.sample_ids
        for sample in batch.samples:
            if sample.index >= len(names) or names[sample.index] != sample.sample_id:
                raise ValueError(
                    f"{batch.directory} has {sample.sample_id} as image {sample.index}, which it is not in this run; "
                    f"it was copied from elsewhere or changed: restore it"
                )

    def _collect(self, batch: LabelBatch, ledger: Ledger) -> None:
        """Add the answers that have come to the ledger, except revoked ones that a file still contains.

        Answers that contradict one another are all added; `_gather` waits until that is settled.
        """
        revoked = [answer for answer, revoked_by in ledger.history(as_now=True) if revoked_by is not None]
        incoming = [*read_returned(batch), *self._tool.collect(batch)]
        policy: Conflicts = "latest" if self._conflicts == "latest" else "majority"
        ingest(batch.run_dir, incoming, conflicts=policy, revoked=revoked)

    def _gather(
        self, batch: LabelBatch, earlier: Sequence[LabelBatch], ledger: Ledger, instructions: str
    ) -> Answers | Pending:
        standing = ledger.active_answers()
        holds = resolve(standing, self._conflicts)
        answered = len(batch.samples) - len(unanswered(batch, standing))
        in_conflict = [one.sample_id for one in batch.samples if _kind(holds, one.sample_id) == "conflict"]
        needed = batch.needed(self._min_fraction)
        if in_conflict:
            return Pending(_disagreement(batch, in_conflict, holds, self._conflicts))
        if answered < needed:
            return Pending(_waiting(batch, answered, needed, instructions))
        new = [sample for sample in batch.samples if not sample.again]
        label = torch.tensor([self._label_of(holds.get(sample.sample_id)) for sample in new], dtype=torch.int64)
        index = torch.tensor([sample.index for sample in new], dtype=torch.int64)
        asked = {sample.sample_id for sample in new}
        return Answers(
            index=index[label >= 0],
            label=label[label >= 0],
            excluded=index[label == EXCLUDED],
            earlier=self._corrections(earlier, holds, asked),
        )

    def _corrections(
        self, earlier: Sequence[LabelBatch], holds: Mapping[str, ResolvedLabel], asked: set[str]
    ) -> Corrections:
        """What holds of earlier batches' samples; where people disagree about one since, what held stays."""
        index_of = {sample.sample_id: sample.index for batch in earlier for sample in batch.samples}
        names = [name for name in index_of if name not in asked and _kind(holds, name) != "conflict"]
        return Corrections(
            index=torch.tensor([index_of[name] for name in names], dtype=torch.int64),
            label=torch.tensor([self._label_of(holds.get(name)) for name in names], dtype=torch.int64),
        )

    def _label_of(self, verdict: ResolvedLabel | None) -> int:
        """The class's number, −1 where nobody knows it, −2 for a bad image."""
        if verdict is None or verdict.kind == "skip":
            return _UNKNOWN
        if verdict.kind == "bad":
            return EXCLUDED
        if verdict.label not in self._source.class_names:
            raise ValueError(
                f"the ledger has the label {verdict.label!r} of {verdict.votes[-1].sample_id}, which is none of the "
                f"run's classes, {', '.join(self._source.class_names)}; take it back with "
                f"{command('ingest', 'RUN_DIR', '--undo', str(verdict.votes[-1].id))}"
            )
        return self._source.class_names.index(verdict.label)


def _kind(holds: Mapping[str, ResolvedLabel], name: str) -> Literal["label", "skip", "bad", "conflict"] | None:
    return holds[name].kind if name in holds else None


def _waiting(batch: LabelBatch, answered: int, needed: int, instructions: str) -> str:
    enough = "" if needed == len(batch.samples) else f"; {needed} are enough"
    more = f" {unread}" if (unread := passed_over(batch)) else ""
    return (
        f"waiting for labels: {answered} of the {len(batch.samples)} images in {batch.directory} have an "
        f"answer{enough}. {instructions}{more} Then give this command again, and the run goes on"
    )


def _disagreement(
    batch: LabelBatch, names: Sequence[str], holds: Mapping[str, ResolvedLabel], conflicts: Conflicts
) -> str:
    lines = [
        f"{name} ({', '.join(f'{name_of(vote.annotator)}: {vote.label or vote.kind}' for vote in holds[name].votes)})"
        for name in names
    ]
    why, policies = ("", "latest")
    if conflicts == "majority":
        why = "; each is a tie, so that there is no majority"
    elif any(verdict.kind != "conflict" for verdict in _by_majority(names, holds)):
        policies = "latest or majority"
    return (
        f"waiting for people to agree about {len(names)} of the {len(batch.samples)} images in {batch.directory}: "
        f"{first_few(lines, _NAMED, '; ')}{why}. Settle them on the page "
        f"({command('label', batch.run_dir, '--settle')} opens it), or have them answer once more, or take an answer "
        f"back ({command('ingest', batch.run_dir, '--history')} lists them), or set oracle.conflicts={policies}. Then "
        f"give this command again, and the run goes on"
    )


def _by_majority(names: Sequence[str], holds: Mapping[str, ResolvedLabel]) -> Sequence[ResolvedLabel]:
    """The verdicts on samples if the majority decided."""
    votes = [vote for name in names for vote in holds[name].votes]
    return list(resolve(votes, "majority").values())


def _check_same(request: LabelRequest, batch: LabelBatch) -> None:
    """The batch must ask for what was requested, but for images that were gone when it was written."""
    asked = [sample.sample_id for sample in batch.samples if not sample.again]
    if asked != [name for name in request.sample_id if name in set(asked)]:
        raise ValueError(
            f"{batch.directory} asks for other images than this round does, {len(asked)} and {len(request.sample_id)} "
            f"of them; it was copied from elsewhere or changed: restore it, or move it away to write it anew"
        )


def _identity(run_dir: Path) -> tuple[str, str]:
    """The run's id and its name for people."""
    config: dict[str, Any] = read_config(run_dir)
    return str((config.get("history") or {}).get("run_id") or run_dir.name), str(config.get("name") or run_dir.name)


def _renamed(sample: AskedSample, image: str) -> AskedSample:
    return AskedSample(**{**vars(sample), "image": image})


def _value(values: Tensor | None, place: int) -> float | None:
    """A number that JSON has; None where it is not known."""
    if values is None or place >= len(values):
        return None
    value = float(values[place])
    return value if isfinite(value) else None
