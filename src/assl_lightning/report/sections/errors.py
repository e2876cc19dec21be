"""The section on the test images that are wrong with the highest confidence, as pictures."""

from __future__ import annotations

from pathlib import PurePosixPath

from assl_lightning.base.run_files import ERRORS, round_directory
from assl_lightning.base.words import counted
from assl_lightning.loop.evaluation import confident_errors
from assl_lightning.report.analysis.evaluations import LastTest
from assl_lightning.report.sections.thumbnails import read_tiles
from assl_lightning.report.views import Block, Paragraph, Strip, Tile


def error_blocks(tested: LastTest) -> tuple[Block, ...]:
    """Show the pictures that the run has kept, the most confident first; nothing where it has none.

    Raises:
        ValueError: the file of the pictures is damaged.
    """
    evaluation = tested.evaluation
    path = round_directory(tested.run.directory, tested.record.round) / ERRORS
    if not evaluation.pictured or not path.exists():
        return ()
    pictures = read_tiles(path, len(evaluation.pictured))
    rows = confident_errors(evaluation, len(pictures))
    tiles = []
    for picture, name, row in zip(pictures, evaluation.pictured, rows.tolist(), strict=False):
        said = tested.names[evaluation.predicted[row]]
        lines = (
            f"said {said} ({evaluation.confidence[row]:.2f}),",
            f"is {tested.names[evaluation.label[row]]}",
            PurePosixPath(name).name,
        )
        tiles.append(Tile(picture, name, lines))
    wrong = int((~evaluation.is_right).sum())
    sentence = (
        f"Of {counted(len(evaluation.label), 'test image')} {wrong:,} {'is' if wrong == 1 else 'are'} wrong. The page "
        f"shows those with the highest confidence, highest first: the predicted class with its confidence, the class "
        f"in the data, and the image's name. Look for wrong labels among them, and for a kind of image that the "
        f"labelled ones lack."
    )
    return Paragraph(sentence), Strip(f"{counted(len(tiles), 'confident error')}", tuple(tiles))
