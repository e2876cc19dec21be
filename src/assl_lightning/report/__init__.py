"""Tables and figures of finished and waiting runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assl_lightning.base.faces import make_face

if TYPE_CHECKING:
    from assl_lightning.report.analysis.runs import Run as Run
    from assl_lightning.report.analysis.runs import find_runs as find_runs
    from assl_lightning.report.curve import plot_curve as plot_curve

__getattr__, __dir__ = make_face(
    __name__,
    {
        "report.analysis.runs": ["Run", "find_runs"],
        "report.curve": ["plot_curve"],
    },
)
