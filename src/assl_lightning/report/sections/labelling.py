"""The section on labels by people: their answers, their time, and the samples on which answers differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from assl_lightning.base.csv_text import rows_as_csv
from assl_lightning.base.proportions import Proportion
from assl_lightning.base.words import UNKNOWN, counted, listed, per_cent
from assl_lightning.data.answers import Answer, ResolvedLabel, name_of
from assl_lightning.report.analysis.labelling import (
    Labelling,
    LabellingRound,
    Question,
    agreeing,
    read_labelling,
    work_of,
)
from assl_lightning.report.analysis.runs import Setting
from assl_lightning.report.sections.thumbnails import thumbnail
from assl_lightning.report.views import Block, Fold, Paragraph, Picture, Table

FILE_NAME = "people.csv"
"""The file beside the page with a row for each sample that people were asked about."""

OPEN_ROWS = 12  # of each list; further rows are folded
MOST_ROWS = 120  # of each list, over all runs of the page
MOST_BYTES = 800_000  # of all thumbnails of the page, as they are encoded in it

Found = tuple[str, int, Labelling]
"""Method, seed, and the labelling of that run."""

_READING = (
    "A round is numbered by the training that uses its labels; the tables show the present state of all answers. Asked "
    "for counts samples without a label before; unanswered counts those without an answer in that round."
)

_TIME = (
    "Minutes are measured by the labelling tools, over all answers with a time, including those that were taken back "
    "or changed. Labels per hour are those of one person: labels with a time that still count, divided by these "
    "minutes."
)


def find_labelling(settings: Sequence[Setting]) -> Mapping[str, list[Found]]:
    """Read the labelling of all runs: setting → runs, without settings in which people were not asked.

    Raises:
        ValueError: a batch or a ledger cannot be read.
    """
    found = {
        setting.name: [
            (method.name, seed, labelling)
            for method in setting.methods.values()
            for seed, run in sorted(method.runs.items())
            if (labelling := read_labelling(run)) is not None
        ]
        for setting in settings
    }
    return {name: runs for name, runs in found.items() if runs}


def labelling_blocks(found: Sequence[Found], runs_on_page: int) -> Iterator[Block]:
    """Show the labelling of a setting's runs; lists and pictures are cut so that all `runs_on_page` have room."""
    yield Paragraph(f"{_READING} {_TIME}")
    for method, seed, labelling in found:
        name = f"{method}, seed {seed}: " if len(found) > 1 else ""
        yield from _of_run(name, labelling, _Lists(name, MOST_ROWS // runs_on_page, MOST_BYTES // runs_on_page))


def _of_run(name: str, labelling: Labelling, lists: _Lists) -> Iterator[Block]:
    yield _answers_table(name, labelling)
    yield _work_table(name, labelling)
    sentences = (_on_test(labelling), _on_model(labelling), _on_second(labelling), _on_people(labelling))
    yield from (Paragraph(name + sentence) for sentence in sentences if sentence)
    differing = [question for question in labelling.questions if question.agrees_with_model is False]
    has_scores = any(question.sample.score is not None for question in differing)
    yield from lists.blocks(
        "People give another class than the model",
        ("sample", "round", "model", "people", *(["score"] if has_scores else [])),
        differing,
        lambda question: (
            str(question.sample.prediction),
            _votes(question.verdict),
            *([_score(question.sample.score)] if has_scores else []),
        ),
    )
    yield from lists.blocks(
        "The second answer differs from the first",
        ("sample", "round", "first", "second", "label now"),
        [question for question in labelling.questions if question.agrees_with_before is False],
        lambda question: (
            _votes(question.before),
            _describe([question.second] if question.second else []),
            _label_now(labelling, question),
        ),
    )
    yield from lists.blocks(
        "Answers differ between people",
        ("sample", "round", "answers", "label now"),
        labelling.contested,
        lambda question: (_votes(labelling.holds[question.sample.sample_id]), _label_now(labelling, question)),
    )


# --- tables ----------------------------------------------------------------------------------------------------------


def _answers_table(name: str, labelling: Labelling) -> Table:
    states = ("label", "skip", "bad", "conflict", "unanswered")
    titles = {"label": "labelled", "skip": "skipped", "bad": "bad image", "conflict": "in conflict"}
    shown = [state for state in states if state != "conflict" or any(part.count(state) for part in labelling.rounds)]
    rows = [(_number(part), *_counts(part.new, shown), *_agreements(part.questions)) for part in labelling.rounds]
    everything = [question for part in labelling.rounds for question in part.new]
    rows.append(("all", *_counts(everything, shown), *_agreements(labelling.questions)))
    header = (
        *("round", "asked for", *(titles.get(state, state) for state in shown)),
        *("as the model", "asked again", "as before"),
    )
    return Table(f"{name}Samples by their answers", header, tuple(rows), has_total=True)


def _counts(questions: Sequence[Question], states: Sequence[str]) -> list[str]:
    return [f"{len(questions):,}", *(f"{sum(question.state == state for question in questions):,}" for state in states)]


def _agreements(questions: Sequence[Question]) -> tuple[str, str, str]:
    again = sum(question.sample.again for question in questions)
    return _share(_with_model(questions)), f"{again:,}", _share(_with_before(questions))


def _work_table(name: str, labelling: Labelling) -> Table:
    rows = [(_number(part), *_work(part.given)) for part in labelling.rounds]
    if labelling.audits:
        rows.append(("audits", *_work(labelling.audits)))
    rows.append(("all", *_work(labelling.given)))
    header = ("round", "answers", "taken back", "with a time", "minutes", "labels per hour", "people (answers)")
    return Table(f"{name}Time for labelling", header, tuple(rows), has_total=True)


def _work(given: Sequence[tuple[Answer, int | None]]) -> tuple[str, ...]:
    work = work_of(given)
    rate = work.labels_per_hour
    return (
        f"{work.answers:,}",
        f"{work.taken_back:,}",
        f"{work.timed:,}",
        f"{work.seconds / 60:,.1f}" if work.timed else UNKNOWN,
        UNKNOWN if rate is None else f"{rate:,.0f}",
        ", ".join(f"{name_of(annotator)} ({count:,})" for annotator, count in work.annotators.items()) or UNKNOWN,
    )


def _number(part: LabellingRound) -> str:
    return f"{part.round}, so far" if part.is_open else f"{part.round}"


def _share(found: Proportion) -> str:
    return f"{found.successes:,} of {found.count:,} ({per_cent(found.share)} %)" if found.count else UNKNOWN


# --- sentences -------------------------------------------------------------------------------------------------------


def _on_test(labelling: Labelling) -> str:
    drawn = [question for question in labelling.questions if question.is_for_test]
    if not drawn:
        return ""
    labelled = sum(question.label is not None for question in drawn)
    return f"Samples of the hold-out, in round 0: {len(drawn):,}, {labelled:,} of them with a label."


def _on_model(labelling: Labelling) -> str:
    found = _with_model(labelling.questions)
    of_query = [question for question in labelling.questions if question.round and not question.sample.again]
    unknown = sum(question.sample.prediction is None for question in of_query)
    sentences = []
    if found.count:
        sentences.append(
            f"Of {counted(found.count, 'sample')} with a label and a known prediction, {found.successes:,} "
            f"({per_cent(found.share)} %) have the predicted class. They were chosen by the query, so "
            f"this is no estimate of the model's accuracy."
        )
    if labelling.shows_predictions:
        sentences.append("People could see the predictions, which sways their answers.")
    if of_query and unknown:
        which = f"{unknown:,} of the {len(of_query):,}" if unknown < len(of_query) else f"the {len(of_query):,}"
        sentences.append(
            f"The predictions of {which} queried samples are unknown: they are recorded only if the query makes a pass "
            f"over the pool."
        )
    if not of_query:
        sentences.append("The samples of round 0 have no predictions, since there was no model yet.")
    return " ".join(sentences)


def _on_second(labelling: Labelling) -> str:
    again = [question for question in labelling.questions if question.sample.again]
    if not again:
        return ""
    found = _with_before(again)
    if not found.count:
        return f"Samples that are asked again: {len(again):,}; none has a second answer yet."
    low, high = map(per_cent, found.interval)
    share = f"{per_cent(found.share)} %, 95 % interval {low} to {high} by Wilson"
    parted = {
        words: _with_before([question for question in again if question.is_by_same_person is same])
        for words, same in (("by the same person", True), ("by another person", False))
    }
    by_whom = listed(
        [f"{part.successes:,} of {part.count:,} {words}" for words, part in parted.items() if part.count] or [""]
    )
    return (
        f"Of {counted(found.count, 'sample')} with a second answer, {found.successes:,} ({share}) got the same label "
        f"as before{f': {by_whom}' if by_whom else ''}. A second answer is the first one that was given again and not "
        f"taken back; later changes to it do not count."
    )


def _on_people(labelling: Labelling) -> str:
    if not labelling.seen_by_several:
        return ""
    contested = len(labelling.contested)
    settled = sum(labelling.holds[question.sample.sample_id].decision is not None for question in labelling.contested)
    by_hand = f"; {settled:,} of them {'was' if settled == 1 else 'were'} settled by a decision" if settled else ""
    decided = {
        "error": "waits until they agree",
        "latest": "gets the latest answer",
        "majority": "gets the answer of the majority, and waits if there is a tie",
    }[labelling.conflicts]
    return (
        f"Of {counted(labelling.seen_by_several, 'sample')} with answers by several people, {contested:,} "
        f"{'has' if contested == 1 else 'have'} different answers now{by_hand}; such a sample {decided}."
    )


def _with_model(questions: Sequence[Question]) -> Proportion:
    return agreeing([question.agrees_with_model for question in questions])


def _with_before(questions: Sequence[Question]) -> Proportion:
    return agreeing([question.agrees_with_before for question in questions])


# --- lists -----------------------------------------------------------------------------------------------------------


@dataclass
class _Lists:
    """The lists of one run, cut to its part of the page."""

    name: str
    rows: int  # of each list
    bytes_left: int  # for thumbnails
    _pictures: dict[str, Picture | None] = field(default_factory=dict)  # by sample id

    def blocks(
        self,
        title: str,
        header: tuple[str, ...],
        questions: Sequence[Question],
        cells: Callable[[Question], tuple[str, ...]],
    ) -> Iterator[Block]:
        """Yield a table, and a fold with further rows; nothing if there are no samples."""
        shown = questions[: max(self.rows, OPEN_ROWS)]
        count = counted(len(questions), "sample")
        for start, end in ((0, OPEN_ROWS), (OPEN_ROWS, len(shown))):
            part = shown[start:end]
            if not part:
                return
            which = count if len(part) == len(questions) else f"{start + 1:,} to {start + len(part):,} of {count}"
            more = f"; {FILE_NAME} has all" if len(part) < len(questions) else ""
            rows = tuple((question.sample.sample_id, f"{question.round}", *cells(question)) for question in part)
            pictures = tuple(self._picture(question) for question in part)
            caption = f"{self.name}{title}: {which}{more}"
            table = Table(caption, header, rows, is_text=True, pictures=pictures if any(pictures) else ())
            yield table if start == 0 else Fold(f"{title}: {counted(len(part), 'more sample')}", (table,))

    def _picture(self, question: Question) -> Picture | None:
        name = question.sample.sample_id
        if name not in self._pictures:
            picture = thumbnail(question.image)
            size = 0 if picture is None else len(picture.uri)
            self._pictures[name] = picture if size <= self.bytes_left else None
            self.bytes_left -= size if size <= self.bytes_left else self.bytes_left
        return self._pictures[name]


def _label_now(labelling: Labelling, question: Question) -> str:
    verdict = labelling.holds.get(question.sample.sample_id)
    if verdict is None or verdict.kind == "conflict":
        return "none yet"
    return _content(verdict.kind, verdict.label)


def _votes(verdict: ResolvedLabel | None) -> str:
    """Write the votes, those for the resolved label first, and the decision."""
    if verdict is None:
        return UNKNOWN
    votes = _describe(sorted(verdict.votes, key=lambda vote: (vote.kind, vote.label) != (verdict.kind, verdict.label)))
    settled = verdict.decision
    if settled is None:
        return votes
    return f"{votes}; settled by {name_of(settled.annotator)}: {_content(settled.kind, settled.label)}"


def _describe(answers: Sequence[Answer]) -> str:
    """Write answers as "boot (Ann, Bo); skip (Cy)", in their order."""
    people: dict[str, list[str]] = {}
    for answer in answers:
        people.setdefault(_content(answer.kind, answer.label), []).append(answer.annotator)
    return "; ".join(
        f"{content} ({', '.join(map(name_of, names))})" if any(names) else content for content, names in people.items()
    )


def _content(kind: str, label: str | None) -> str:
    return label if label is not None else {"bad": "bad image", "skip": "skip"}[kind]


def _score(score: float | None) -> str:
    return UNKNOWN if score is None else f"{score:#.3g}"


# --- the CSV file ----------------------------------------------------------------------------------------------------


def people_csv(found: Mapping[str, Sequence[Found]]) -> str:
    """Write a row for each sample that a round asked for; unknown values are empty, yes is 1 and no is 0."""
    return rows_as_csv(
        [
            {"setting": setting, "method": method, "seed": seed, **_row(part, question)}
            for setting, runs in found.items()
            for method, seed, labelling in runs
            for part in labelling.rounds
            for question in part.questions
        ]
    )


def _row(part: LabellingRound, question: Question) -> dict[str, object]:
    work = work_of(question.given)
    return {
        "round": question.round,
        "is_open": int(part.is_open),
        "sample_id": question.sample.sample_id,
        "index": question.sample.index,
        "asked_again": int(question.sample.again),
        "for_test": int(question.is_for_test),
        "score": question.sample.score,
        "prediction": question.sample.prediction,
        "state": question.state,
        "label": question.label,
        "annotators": json.dumps([*work.annotators], ensure_ascii=False),
        "answers": work.answers,
        "taken_back": work.taken_back,
        "timed": work.timed,
        "seconds": round(work.seconds, 3) if work.timed else None,
        "agrees_with_model": _flag(question.agrees_with_model),
        "label_before": question.before.label if question.before else None,
        "second_answer": _content(question.second.kind, question.second.label) if question.second else None,
        "agrees_with_before": _flag(question.agrees_with_before),
        "by_same_person": _flag(question.is_by_same_person),
    }


def _flag(value: bool | None) -> int | None:
    return None if value is None else int(value)
