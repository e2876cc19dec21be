"""The sections of a report on settings, and their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assl_lightning.report.analysis.runs import Setting
from assl_lightning.report.conclusions import conclusions
from assl_lightning.report.sections.accuracy import accuracy_blocks
from assl_lightning.report.sections.class_balance import class_balance_blocks
from assl_lightning.report.sections.contrasts import Contrasts, contrast_blocks, contrasts, reference_of
from assl_lightning.report.sections.durations import time_blocks
from assl_lightning.report.sections.histograms import histogram_blocks
from assl_lightning.report.sections.labelling import Found, labelling_blocks
from assl_lightning.report.sections.labelling_more import labelling_more_blocks
from assl_lightning.report.sections.mask_rates import mask_rate_blocks
from assl_lightning.report.sections.over_settings import over_settings_sections
from assl_lightning.report.sections.pairwise import pairwise_blocks
from assl_lightning.report.sections.provenance import provenance_blocks
from assl_lightning.report.sections.random_picks import random_pick_blocks
from assl_lightning.report.sections.thumbnails import shown_seeds, thumbnail_blocks
from assl_lightning.report.views import Page, Section


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
    whole = (Section("Who beats whom", pairwise_blocks(settings)), *over_settings_sections(settings))
    if len(settings) == 1:
        own = _sections(settings[0], compared[0], people, level=2)
        return Page(title or _title(settings[0]), (*lead,), (*own[:2], *whole, *own[2:]))
    named = tuple(f"{setting.name}: {text}" for setting, text in zip(settings, lead, strict=True))
    sections = [*whole]
    for setting, found in zip(settings, compared, strict=True):
        sections += [Section(setting.name, ()), *_sections(setting, found, people, level=3)]
    return Page(title or f"{len(settings)} settings side by side", named, tuple(sections))


def _title(setting: Setting) -> str:
    """Return the common name of the runs, if they have one, and the name of the setting."""
    names = {str(run.config.get("name")) for method in setting.methods.values() for run in method.runs.values()}
    return f"{names.pop()}: {setting.name}" if len(names) == 1 else setting.name


def _compare(setting: Setting, against: str | None) -> Contrasts | None:
    reference = reference_of(setting, against)
    return None if reference is None else contrasts(setting, reference)


def _sections(
    setting: Setting, compared: Contrasts | None, people: Mapping[str, Sequence[Found]], level: int
) -> tuple[Section, ...]:
    seeds = shown_seeds(setting)
    asked, runs_on_page = people.get(setting.name, ()), sum(map(len, people.values()))
    rates, at_random = mask_rate_blocks(setting), random_pick_blocks(setting)
    differences = "Differences" if compared is None else f"Differences to {compared.reference}"
    return (
        Section("Accuracy", accuracy_blocks(setting), level),
        Section(differences, contrast_blocks(setting, compared), level),
        Section("Shall we label more?", labelling_more_blocks(setting, asked), level),
        Section("Time", time_blocks(setting, with_people=bool(asked)), level),
        *((Section("Accuracy without a hold-out", at_random, level),) if at_random else ()),
        *((Section("Pseudo-labels", rates, level),) if rates else ()),
        *((Section("Labels by people", tuple(labelling_blocks(asked, runs_on_page)), level),) if asked else ()),
        Section("Classes of the queries", class_balance_blocks(setting), level),
        Section("Pictures of the queries", thumbnail_blocks(setting, seeds), level),
        Section("Scores of the queries", histogram_blocks(setting, seeds), level),
        Section("Settings and versions", provenance_blocks(setting), level),
    )
