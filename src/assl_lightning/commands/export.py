"""`python -m assl_lightning.export RUN_DIR`: a run's network as a model for other programs, with its card."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from assl_lightning.base.atomic import write_text
from assl_lightning.base.command_line import Parser, as_command
from assl_lightning.base.paths import path_argument
from assl_lightning.commands.messages import set_up_messages
from assl_lightning.commands.model_card import model_card

if TYPE_CHECKING:
    from assl_lightning.commands.exporting import Format

CARD = "README.md"
FORMATS = ("onnx", "torch_export", "safetensors")


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the model and its card into a new directory, and print where; after an error there is nothing."""
    options = _parser().parse_args(arguments)
    set_up_messages()
    kind: Format = options.format
    output: Path = options.output or Path(options.run_dir) / f"export_{kind}"
    if output.exists():
        raise ValueError(f"--output {output}: is there already; remove it, or name another directory")
    from assl_lightning.commands.exporting import FILES, Format, metadata_of, write_model
    from assl_lightning.commands.predicting import RunPredictor

    assert get_args(Format) == FORMATS
    predictor = RunPredictor(options.run_dir)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as temporary:
        made = Path(temporary) / output.name
        made.mkdir()
        difference = write_model(predictor, kind, made / FILES[kind])
        card = model_card(options.run_dir, kind, FILES[kind], metadata_of(predictor), predictor.check)
        write_text(made / CARD, card)
        shutil.move(made, output)
    sys.stdout.write(
        f"{output / FILES[kind]}: gives the network's probabilities on real images, but for {difference:.1g}\n"
        f"{output / CARD}: the model's card; fill in its licence\n"
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m assl_lightning.export",
        description="Write the averaged weights of a run's newest training as a model that takes pixels in [0, 255] of "
        "the run's size and gives probabilities (onnx, torch_export), or as weights under the names of their library "
        "(safetensors); with a card that says what it is.",
    )
    parser.add_argument("run_dir", type=path_argument, metavar="RUN_DIR", help="the directory of a run")
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument(
        "--output", type=path_argument, metavar="DIR", help="a new directory; default: export_FORMAT in the run's"
    )
    return parser
