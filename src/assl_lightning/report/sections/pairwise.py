"""The section on who beats whom, over all settings: the paper's matrix (Fig. 6), and one with a valid test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from assl_lightning.base.words import counted, listed
from assl_lightning.report.analysis.comparison import (
    ENOUGH_SEEDS,
    PAPER_THRESHOLD,
    PairwiseMatrix,
    pairwise_matrix,
    valid_matrix,
)
from assl_lightning.report.analysis.runs import Setting, accuracies, shared_seeds
from assl_lightning.report.views import Block, Paragraph, Table


def pairwise_blocks(settings: Sequence[Setting]) -> tuple[Block, ...]:
    """Show both matrices, summed over the settings with a matrix, and a sentence on each setting without one.

    Where every setting has one method there is nothing to show.
    """
    if all(len(setting.methods) == 1 for setting in settings):
        return ()
    obstacles = {setting.name: obstacle(setting) for setting in settings}
    notes = tuple(
        Paragraph(
            f"{name} is left out: {why}." if len(settings) > 1 else f"There is no pairwise matrix, because {why}."
        )
        for name, why in obstacles.items()
        if why
    )
    usable = [_accuracies(setting) for setting in settings if not obstacles[setting.name]]
    return (*_matrices(usable), *notes) if usable else notes


def obstacle(setting: Setting) -> str:
    """Return the reason why a setting has no matrix, or ""."""
    if len(setting.methods) < 2:
        return "there is only one method"
    if len(setting.labels) < 2:
        return "there is only one round, and the first does not count, since nothing was acquired yet"
    seeds = len(shared_seeds(*setting.methods.values()))
    return f"the methods have {counted(seeds, 'common seed')}, and a deviation needs two" if seeds < 2 else ""


def _accuracies(setting: Setting) -> Mapping[str, NDArray[np.float64]]:
    seeds = shared_seeds(*setting.methods.values())
    return {name: accuracies(method, seeds) for name, method in setting.methods.items()}


def _matrices(settings: Sequence[Mapping[str, NDArray[np.float64]]]) -> tuple[Block, ...]:
    paper, valid = pairwise_matrix(settings), valid_matrix(settings)
    seeds = listed([f"{n}" for n in sorted(set(paper.seeds))])
    reading = (
        f"How often the row's method beats the column's: the share of rounds after the first in which it does, summed "
        f"over {counted(paper.settings, 'setting')}, so at most {paper.settings} (n = {seeds} common seeds). The last "
        f"row is how often the column's method is beaten on average; smaller is better."
    )
    parity = (
        f"The paper's count, to compare with its Fig. 6: t above {PAPER_THRESHOLD}, with a standard deviation that "
        f"divides by n. The threshold is that of 5 seeds and a deviation that divides by n − 1; it is too low for "
        f"fewer seeds, and for this deviation."
    )
    sound = (
        "The valid count: Student's paired t at a two-sided level of 5 % for the actual number of seeds. The level is "
        "that of one round and pair, without a correction: of 40 rounds between equal methods, one counts as a win and "
        "one as a defeat on average."
    )
    few = sum(n < ENOUGH_SEEDS for n in paper.seeds)
    warning: tuple[Block, ...] = ()
    if few == paper.settings:
        warning = (Paragraph(f"With fewer than {ENOUGH_SEEDS} seeds, neither count is conclusive."),)
    elif few:
        those = f"{counted(few, 'setting')} with fewer than {ENOUGH_SEEDS} seeds"
        warning = (Paragraph(f"The counts include {those}, which are not conclusive on their own."),)
    missing = tuple(
        Paragraph(
            f"{name} is missing in {counted(count, 'setting')}, where it neither beats another method nor is beaten."
        )
        for name, count in paper.missing.items()
    )
    return (
        *(Paragraph(reading), *warning, *missing),
        *(Paragraph(parity), matrix_table(f"The paper's count (t > {PAPER_THRESHOLD}, ddof 0)", paper)),
        *(Paragraph(sound), matrix_table("Valid test (two-sided 5 %, ddof 1)", valid)),
    )


def matrix_table(caption: str, matrix: PairwiseMatrix) -> Table:
    """Return the matrix: rows beat columns; the last row is the mean of each column over the other methods."""
    rows = [
        (name, *("" if row == column else f"{wins:.1f}" for column, wins in enumerate(matrix.wins[row].tolist())))
        for row, name in enumerate(matrix.methods)
    ]
    beaten = ("is beaten", *(f"{mean:.2f}" for mean in matrix.beaten.tolist()))
    return Table(caption, ("beats →", *matrix.methods), (*rows, beaten), has_total=True)
