"""The sections of a report on settings, and their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from assl_lightning.report.analysis.classes import names_of
from assl_lightning.report.analysis.evaluations import last_tests
from assl_lightning.report.analysis.runs import Setting
from assl_lightning.report.conclusions import conclusions
from assl_lightning.report.sections.accuracy import accuracy_blocks
from assl_lightning.report.sections.class_accuracy import class_accuracy_blocks
from assl_lightning.report.sections.class_balance import class_balance_blocks
from assl_lightning.report.sections.confusion import confusion_blocks
from assl_lightning.report.sections.contrasts import Contrasts, contrast_blocks, contrasts, reference_of
from assl_lightning.report.sections.durations import time_blocks
from assl_lightning.report.sections.errors import error_blocks
from assl_lightning.report.sections.histograms import histogram_blocks
from assl_lightning.report.sections.labelling import Found, labelling_blocks
from assl_lightning.report.sections.labelling_more import labelling_more_blocks
from assl_lightning.report.sections.mask_rates import mask_rate_blocks
from assl_lightning.report.sections.over_settings import over_settings_sections
from assl_lightning.report.sections.pairwise import pairwise_blocks
from assl_lightning.report.sections.picked_accuracy import picked_accuracy_blocks
from assl_lightning.report.sections.provenance import provenance_blocks
from assl_lightning.report.sections.reliability import reliability_blocks
from assl_lightning.report.sections.tested import of_each_method
from assl_lightning.report.sections.thumbnails import shown_seeds, thumbnail_blocks
from assl_lightning.report.titles import title_in_words
from assl_lightning.report.views import Block, Page, Section


def comparison_page(
    settings: Sequence[Setting],
    against: str | None = None,
    title: str | None = None,
    *,
    people: Mapping[str, Sequence[Found]],
) -> Page:
    """Make the report on one setting, or on several side by side with one pairwise matrix over all.

    `people` is the result of `find_labelling`.

    Raises:
        ValueError: `against` is no method of a setting, or a file of a run cannot be read.
    """
    compared = [_compare(setting, against) for setting in settings]
    lead = [conclusions(setting, found) for setting, found in zip(settings, compared, strict=True)]
    whole = (*_filled("Who beats whom", pairwise_blocks(settings), 2), *over_settings_sections(settings))
    if len(settings) == 1:
        results, details = _sections(settings[0], compared[0], people, level=2)
        return Page(title or _title(settings[0]), (*lead,), (*results, *whole, *details))
    named = tuple(f"{setting.name}: {text}" for setting, text in zip(settings, lead, strict=True))
    sections = [*whole]
    for setting, found in zip(settings, compared, strict=True):
        results, details = _sections(setting, found, people, level=3)
        sections += [Section(setting.name, ()), *results, *details]
    return Page(title or f"{len(settings)} settings side by side", named, tuple(sections))


def _title(setting: Setting) -> str:
    """Return the title of the runs if all have the same, such as "Castings: small CNN, 3 classes"; else the setting."""
    titles = {title_in_words(run.config, len(names_of(run))) for run in setting.runs}
    return titles.pop() if len(titles) == 1 else setting.name


def _compare(setting: Setting, against: str | None) -> Contrasts | None:
    reference = reference_of(setting, against)
    return None if reference is None else contrasts(setting, reference)


def _sections(
    setting: Setting, compared: Contrasts | None, people: Mapping[str, Sequence[Found]], level: int
) -> tuple[tuple[Section, ...], tuple[Section, ...]]:
    """Return the sections on how good the methods are, and all others; what there is nothing of has no section."""
    seeds = shown_seeds(setting)
    asked, runs_on_page = people.get(setting.name, ()), sum(map(len, people.values()))
    differences = "Differences" if compared is None else f"Differences to {compared.reference}"
    results = (
        *_filled("Accuracy", accuracy_blocks(setting), level),
        *_filled(differences, contrast_blocks(setting, compared), level),
        *_filled("Shall we label more?", labelling_more_blocks(setting, asked), level),
    )
    tests = last_tests(setting, seeds)
    of_tests = partial(of_each_method, tests, of_several=len(setting.methods))
    labelled = tuple(labelling_blocks(asked, runs_on_page)) if asked else ()
    details = (
        *_filled("Accuracy by class", of_tests(class_accuracy_blocks), level),
        *_filled("Confused classes", of_tests(confusion_blocks), level),
        *_filled("Confident errors", of_tests(error_blocks), level),
        *_filled("Confidence", of_tests(reliability_blocks), level),
        *_filled("Time", time_blocks(setting, with_people=bool(asked)), level),
        *_filled("Accuracy without a hold-out", picked_accuracy_blocks(setting), level),
        *_filled("Pseudo-labels", mask_rate_blocks(setting), level),
        *_filled("Labels by people", labelled, level),
        *_filled("Classes of the queries", class_balance_blocks(setting), level),
        *_filled("Pictures of the queries", thumbnail_blocks(setting, seeds), level),
        *_filled("Scores of the queries", histogram_blocks(setting, seeds), level),
        *_filled("Settings and versions", provenance_blocks(setting), level),
    )
    return results, details


def _filled(title: str, blocks: tuple[Block, ...], level: int) -> tuple[Section, ...]:
    """Return the section, or none if it would be empty."""
    return (Section(title, blocks, level),) if blocks else ()
