"""People as the oracle: a round writes a batch to label and ends; the same command goes on with the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from assl_lightning.base.arguments import is_number, require_one_of
from assl_lightning.base.run_files import LEDGER, TO_LABEL
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
    AskedSample,
    LabelBatch,
    find_all_batches,
    find_audits,
    find_batches,
    read_batch,
    write_batch,
    write_classes,
)
from assl_lightning.people.judging import ingest, unanswered
from assl_lightning.people.ledger import Ledger
from assl_lightning.people.notify import is_command, notify
from assl_lightning.people.returned import passed_over, read_returned

_NAMED = 5  # samples about which people disagree, in a message
_MAX_THUMBNAILS = 100

_UNKNOWN = -1


class LabellingTool(Protocol):
    """A way to ask people for labels and to get their answers, all of which end in the run's ledger."""

    def check(self, class_names: Sequence[str]) -> None:
        """Raise a ValueError or OSError, before anything is trained, if people could not be asked."""
        ...

    def offer(self, batch: LabelBatch) -> str:
        """Show the batch to people, and return the instructions for them. It may be called again."""
        ...

    def collect(self, batch: LabelBatch) -> Sequence[Incoming]:
        """Return the answers so far, including those returned before; none if the tool writes the ledger itself.

        Files of labels in the batch's directory are left alone: the oracle reads them for every tool.
        """
        ...


class People:
    """An oracle that asks people, and does not wait for them.

    The first call writes a batch (`people.batch`) into the directory of the round that trains on the labels. While too
    few samples of the batch have an answer, or people disagree, the answer is `Pending`. Answers to earlier batches
    that have come since, corrections and late ones, are returned as `Answers.earlier`.

    Args:
        source: the pool's images, their names and the names of the classes.
        tool: the way in which people answer.
        conflicts: the policy for samples about which people differ; see `Conflicts`.
        min_fraction: share of a batch, in (0, 1], that must be answered (labelled, skipped or bad) for the run to go
            on; the other samples stay unlabelled, and are not asked for again in the next round.
        relabel_fraction: number of labelled samples that are asked for again, for each sample of a request, ≥ 0. They
            are drawn among the samples that people labelled and that were not asked for again yet.
        seed: of these draws.
        show_predictions: True if people may see the model's prediction, on the page and in the table; they then agree
            with it more often.
        longest_side: pixels of an image that people look at; larger images are shrunk.
        notify: a shell command that is run once for each batch, as soon as it waits for people (see `people.notify`);
            None for none.

    Raises:
        ValueError: a value is out of its range.
        OSError: see `LabellingTool.check`, which may raise a ValueError, too.
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
        notify: str | None = None,
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
            ("notify", notify, notify is None or is_command(notify), "a shell command in one text, or null"),
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
        self._notify = notify
        self._missing = {*source.absent.tolist(), *source.unreadable.tolist()}  # images that cannot be shown

    def answer(self, request: LabelRequest) -> Answers | Pending:
        """Return the labels that people gave if enough samples have an answer, else instructions for them."""
        nothing = request.index[:0]
        if not len(request.index):
            return Answers(nothing, nothing)
        if request.directory is None:
            raise ValueError("people need a directory to find the images in; give the request one")
        run_dir, directory = request.directory.parent, request.directory / TO_LABEL
        ledger = Ledger(run_dir / LEDGER)
        if not directory.exists():
            samples = self._requested_samples(request)
            if not samples:
                return Answers(nothing, nothing)  # the images of all of them are gone
            again = self._samples_to_relabel(request, ledger)
            self._write([*samples, *again], request.round_number + 1, directory)
        batch = read_batch(directory)
        write_classes(batch)  # they may have changed since it was written
        _check_same(request, batch)
        earlier = [other for other in find_batches(run_dir) if other.round < batch.round]
        audits = [audit for audit in find_audits(run_dir) if audit.round <= batch.round]
        for each in (*earlier, *audits, batch):
            self._check_indices(each)
        instructions = self._tool.offer(batch)
        active = ledger.active_answers()
        unfinished = [audit for audit in audits if audit.round == batch.round or unanswered(audit, active)]
        self._collect([batch, *unfinished], ledger)
        answers = self._gather(batch, earlier, audits, ledger, instructions)
        if isinstance(answers, Pending) and self._notify is not None:
            notify(self._notify, batch)
        return answers

    def ask_again(self, directory: Path, round_number: int, index: Sequence[int], predictions: Sequence[str]) -> str:
        """Write a batch of samples that have a label, to be labelled once more, and return the instructions for people.

        Args:
            directory: of the batch, which must not exist: `people.batch.next_audit`.
            round_number: the first round that could train on the corrections.
            index: K pool indices.
            predictions: the class of each that speaks against its label.
        """
        samples = [
            AskedSample(self._source.sample_ids[sample], sample, "", self._path(sample), prediction, again=True)
            for sample, prediction in zip(index, predictions, strict=True)
        ]
        self._write(samples, round_number, directory)
        return self.offer(read_batch(directory))

    def offer(self, batch: LabelBatch) -> str:
        """Show people a batch that is written already, and return the instructions for them."""
        return self._tool.offer(batch)

    # ---- asking

    def _write(self, samples: Sequence[AskedSample], round_number: int, directory: Path) -> None:
        directory.parent.mkdir(parents=True, exist_ok=True)
        index = torch.tensor([sample.index for sample in samples])
        shown = [self._show(sample.index) for sample in samples]
        named = [
            replace(sample, image=f"{number:04d}.{suffix}")
            for number, (sample, (suffix, _)) in enumerate(zip(samples, shown, strict=True))
        ]
        run_id, name = _identity(directory.parent.parent)
        batch = LabelBatch(
            directory=directory,
            run_id=run_id,
            name=name,
            round=round_number,
            class_names=self._source.class_names,
            samples=tuple(named),
            show_predictions=self._show_predictions,
        )
        sheet = contact_sheet(self._source.pool_images[index[:_MAX_THUMBNAILS]])
        write_batch(batch, [content for _, content in shown], sheet)

    def _requested_samples(self, request: LabelRequest) -> list[AskedSample]:
        columns = {"score": request.score, **request.parts}
        return [
            AskedSample(
                sample_id=name,
                index=index,
                image="",
                path=self._path(index),
                prediction=self._class_of(request.prediction, row),
                score=_value(columns["score"], row),
                parts={part: _value(values, row) for part, values in request.parts.items()},
            )
            for row, (index, name) in enumerate(zip(request.index.tolist(), request.sample_id, strict=True))
            if index not in self._missing
        ]

    def _samples_to_relabel(self, request: LabelRequest, ledger: Ledger) -> list[AskedSample]:
        """Draw samples that people have labelled, by a draw that depends on the samples' names alone."""
        count = round(self._relabel_fraction * len(request.index))
        if not count:
            return []
        assert request.directory is not None
        earlier = [sample for batch in find_all_batches(request.directory.parent) for sample in batch.samples]
        asked_again = {sample.sample_id for sample in earlier if sample.again}
        in_training = set(request.labelled.tolist()) - self._missing
        resolved = resolve(ledger.active_answers(), self._conflicts)
        labelled = {
            sample.sample_id: sample
            for sample in earlier
            if sample.sample_id not in asked_again
            and sample.index in in_training
            and _kind(resolved, sample.sample_id) == "label"
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

    def _class_of(self, prediction: Tensor | None, row: int) -> str | None:
        if prediction is None or row >= len(prediction):
            return None
        return self._source.class_names[int(prediction[row])]

    # ---- gathering

    def _check_indices(self, batch: LabelBatch) -> None:
        """Raise if a batch has other indices for its images than the run, so that a label would go to another image."""
        names = self._source.sample_ids
        for sample in batch.samples:
            if sample.index >= len(names) or names[sample.index] != sample.sample_id:
                raise ValueError(
                    f"{batch.directory} has {sample.sample_id} as image {sample.index}, which it is not in this run; "
                    f"it was copied from elsewhere or changed: restore it"
                )

    def _collect(self, batches: Sequence[LabelBatch], ledger: Ledger) -> None:
        """Add new answers to the ledger, except revoked ones that a file still contains.

        Answers that contradict each other are all added; `_gather` waits until they are resolved.
        """
        revoked = [answer for answer, revoked_by in ledger.history(as_now=True) if revoked_by is not None]
        incoming = [answer for batch in batches for answer in (*read_returned(batch), *self._tool.collect(batch))]
        policy: Conflicts = "latest" if self._conflicts == "latest" else "majority"
        ingest(batches[0].run_dir, incoming, conflicts=policy, revoked=revoked)

    def _gather(
        self,
        batch: LabelBatch,
        earlier: Sequence[LabelBatch],
        audits: Sequence[LabelBatch],
        ledger: Ledger,
        instructions: str,
    ) -> Answers | Pending:
        active = ledger.active_answers()
        resolved = resolve(active, self._conflicts)
        answered = len(batch.samples) - len(unanswered(batch, active))
        names = [sample.sample_id for sample in batch.samples]
        in_conflict = [name for name in names if _kind(resolved, name) == "conflict"]
        needed = batch.needed(self._min_fraction)
        if in_conflict:
            return Pending(_disagreement(batch, in_conflict, resolved, self._conflicts))
        if answered < needed:
            return Pending(_waiting(batch, answered, needed, instructions))
        new = [sample for sample in batch.samples if not sample.again]
        label = torch.tensor([self._label_of(resolved.get(sample.sample_id)) for sample in new], dtype=torch.int64)
        index = torch.tensor([sample.index for sample in new], dtype=torch.int64)
        asked = {sample.sample_id for sample in new}
        return Answers(
            index=index[label >= 0],
            label=label[label >= 0],
            excluded=index[label == EXCLUDED],
            earlier=self._corrections(earlier, audits, resolved, asked),
        )

    def _corrections(
        self,
        earlier: Sequence[LabelBatch],
        audits: Sequence[LabelBatch],
        resolved: Mapping[str, ResolvedLabel],
        asked: set[str],
    ) -> Corrections:
        """Return the present labels of earlier batches' samples, except of those about which people now disagree.

        A sample whose label came with the data has it unless an audit's answer that stands says another one.
        """
        audited = {sample.sample_id: sample.index for batch in audits for sample in batch.samples}
        of_people = {sample.sample_id: sample.index for batch in earlier for sample in batch.samples}
        label_of: dict[int, int] = {}
        for name, index in (audited | of_people).items():
            if name in asked or _kind(resolved, name) == "conflict":
                continue
            label = self._label_of(resolved.get(name))
            if name not in of_people and label == _UNKNOWN:
                label = int(self._source.hidden_labels[index])
                if label < 0:
                    continue  # its label came neither with the data nor from a batch that is still here
            label_of[index] = label
        return Corrections(
            index=torch.tensor(list(label_of), dtype=torch.int64),
            label=torch.tensor(list(label_of.values()), dtype=torch.int64),
        )

    def _label_of(self, resolved: ResolvedLabel | None) -> int:
        """Return the number of the class, −1 if it is unknown, −2 for a bad image."""
        if resolved is None or resolved.kind == "skip":
            return _UNKNOWN
        if resolved.kind == "bad":
            return EXCLUDED
        if resolved.label not in self._source.class_names:
            answers = (*resolved.votes, *([] if resolved.decision is None else [resolved.decision]))
            answer = next(answer for answer in reversed(answers) if answer.label == resolved.label)
            raise ValueError(
                f"the ledger has the label {resolved.label!r} of {answer.sample_id}, which is none of the run's "
                f"classes, {', '.join(self._source.class_names)}; take it back with "
                f"{command('ingest', 'RUN_DIR', '--undo', str(answer.id))}"
            )
        return self._source.class_names.index(resolved.label)


def _kind(resolved: Mapping[str, ResolvedLabel], name: str) -> Literal["label", "skip", "bad", "conflict"] | None:
    return resolved[name].kind if name in resolved else None


def _waiting(batch: LabelBatch, answered: int, needed: int, instructions: str) -> str:
    enough = "" if needed == len(batch.samples) else f"; {needed} are enough"
    more = f" {unread}" if (unread := passed_over(batch)) else ""
    return (
        f"waiting for labels: {answered} of the {len(batch.samples)} images in {batch.directory} have an "
        f"answer{enough}. {instructions}{more} Then give this command again, and the run goes on"
    )


def _disagreement(
    batch: LabelBatch, names: Sequence[str], resolved: Mapping[str, ResolvedLabel], conflicts: Conflicts
) -> str:
    disputed = [
        f"{name} ({', '.join(f'{name_of(vote.annotator)}: {vote.label or vote.kind}' for vote in label.votes)})"
        for name, label in ((name, resolved[name]) for name in names)
    ]
    why, policies = ("", "latest")
    if conflicts == "majority":
        why = "; each is a tie, so that there is no majority"
    elif any(label.kind != "conflict" for label in _by_majority(names, resolved)):
        policies = "latest or majority"
    return (
        f"waiting for people to agree about {len(names)} of the {len(batch.samples)} images in {batch.directory}: "
        f"{first_few(disputed, _NAMED, '; ')}{why}. Settle them on the page "
        f"({command('label', batch.run_dir, '--settle')} opens it), or have them answer once more, or take an answer "
        f"back ({command('ingest', batch.run_dir, '--history')} lists them), or set oracle.conflicts={policies}. Then "
        f"give this command again, and the run goes on"
    )


def _by_majority(names: Sequence[str], resolved: Mapping[str, ResolvedLabel]) -> Sequence[ResolvedLabel]:
    """Return the labels of samples if the majority decided."""
    votes = [vote for name in names for vote in resolved[name].votes]
    return list(resolve(votes, "majority").values())


def _check_same(request: LabelRequest, batch: LabelBatch) -> None:
    """Raise if a batch asks for other samples than the request; those whose images were gone may be missing."""
    asked = [sample.sample_id for sample in batch.samples if not sample.again]
    if asked != [name for name in request.sample_id if name in set(asked)]:
        raise ValueError(
            f"{batch.directory} asks for other images than this round does, {len(asked)} and {len(request.sample_id)} "
            f"of them; it was copied from elsewhere or changed: restore it, or move it away and it is written again"
        )


def _identity(run_dir: Path) -> tuple[str, str]:
    """Return the run's id and its name for people."""
    config: dict[str, Any] = read_config(run_dir)
    return str((config.get("history") or {}).get("run_id") or run_dir.name), str(config.get("name") or run_dir.name)


def _value(values: Tensor | None, row: int) -> float | None:
    """Return a number that JSON has, or None if it is unknown."""
    if values is None or row >= len(values):
        return None
    value = float(values[row])
    return value if isfinite(value) else None
