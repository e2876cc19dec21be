"""`python -m assl_lightning.export RUN_DIR`: a run's network as a model, or its labels, for other programs."""

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
from assl_lightning.base.paths import check_file_to_write, path_argument
from assl_lightning.base.run_files import require_run
from assl_lightning.base.words import counted
from assl_lightning.commands.ingest import configured_conflicts
from assl_lightning.commands.messages import set_up_messages
from assl_lightning.commands.model_card import model_card
from assl_lightning.commands.prediction_files import LabelledImage, check_links, write_links
from assl_lightning.people.labelled_set import LabelledSample, LabelledSet, labelled_set

if TYPE_CHECKING:
    from assl_lightning.commands.exporting import Format

CARD = "README.md"
FORMATS = ("onnx", "torch_export", "safetensors")
OF_LABELS = ("labels", "folder")
"""Formats of the labelled set: a table, and a directory of links. They need no torch and no trained network."""


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Write what is asked for, and print where; after an error there is nothing."""
    options = _parser().parse_args(arguments)
    require_run(options.run_dir)
    if options.format in OF_LABELS:
        _export_labels(options.run_dir, options.format, options.output)
    else:
        _export_model(options)


def _export_model(options: argparse.Namespace) -> None:
    """Write the model and its card into a new directory."""
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
        f"{output / FILES[kind]}: its probabilities on real images differ from the network's by at most "
        f"{difference:.1g}\n"
        f"{output / CARD}: the model's card; fill in its licence\n"
    )


def _export_labels(run_dir: Path, kind: str, output: Path | None) -> None:
    """Write the labelled set as a table, over one that is there, or as a new directory of links."""
    found = labelled_set(run_dir, configured_conflicts(run_dir))
    if not found.samples:
        raise ValueError(f"{run_dir} has no label by people yet; label images first")
    if kind == "labels":
        path = output or run_dir / "labels.csv"
        check_file_to_write("--output", path, ".csv")
        write_text(path, found.table())
    else:
        path = output or run_dir / "export_folder"
        images = [_linked(sample, run_dir) for sample in found.samples]
        check_links({image.class_name for image in images}, path, [image.path for image in images], "--output")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_links(images, path)
    sys.stdout.write(f"{_described(found)}: {path}\n")


def _linked(sample: LabelledSample, run_dir: Path) -> LabelledImage:
    if sample.path is None:
        raise ValueError(
            f"--format folder: needs images in files; the data of {run_dir} have none; use --format labels"
        )
    if not sample.path.exists():
        raise ValueError(f"{sample.path} is not there; give the command in the directory where the run was started")
    return LabelledImage(sample.sample_id, sample.label, sample.path, sample.is_held_out)


def _described(found: LabelledSet) -> str:
    held_out = sum(sample.is_held_out for sample in found.samples)
    details = [f"{held_out} of the hold-out"] if held_out else []
    if found.disputed:
        details.append(f"without {counted(found.disputed, 'image')} about which people differ")
    beside = f" ({', '.join(details)})" if details else ""
    return f"{counted(len(found.samples), 'image')} with a label{beside}"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m assl_lightning.export",
        description="Write the averaged weights of a run's newest training as a model that takes pixels in [0, 255] of "
        "the run's size and gives probabilities (onnx, torch_export), or as weights under the names of their library "
        "(safetensors); with a card that says what it is. Or write what people have labelled so far, at any time, as a "
        "table (labels) or a directory of links to the images, by class (folder).",
    )
    parser.add_argument("run_dir", type=path_argument, metavar="RUN_DIR", help="the directory of a run")
    parser.add_argument("--format", choices=(*FORMATS, *OF_LABELS), required=True)
    parser.add_argument(
        "--output",
        type=path_argument,
        metavar="PATH",
        help="a new directory; default: export_FORMAT in the run's. For labels a file; default: labels.csv there",
    )
    return parser
