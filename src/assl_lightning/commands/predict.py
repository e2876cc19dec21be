"""`python -m assl_lightning.predict RUN_DIR [PATH …]`: what a run's network says of the images without a label."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

from assl_lightning.base.argument_types import number_above
from assl_lightning.base.command_line import Parser, as_command
from assl_lightning.base.paths import check_file_to_write, path_argument
from assl_lightning.base.run_files import require_run
from assl_lightning.base.words import counted, per_cent
from assl_lightning.commands.messages import set_up_messages
from assl_lightning.commands.prediction_files import (
    LabelledImage,
    PredictedImage,
    check_links,
    check_root,
    check_table,
    write_label_studio,
    write_links,
    write_manifest,
    write_table,
)
from assl_lightning.commands.progress import progress

if TYPE_CHECKING:
    from assl_lightning.commands.predicting import Predictions, RunPredictor

TABLE = "predictions.csv"
_TRUSTED = 0.95
"""Confidence of which the printed lines tell, where `--above` names none."""


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Predict, write the files that were asked for, and print what the predictions are worth."""
    options = _parser().parse_args(arguments)
    require_run(options.run_dir)
    set_up_messages()
    table = options.output or _beside_the_run(options)
    check_table(table)
    check_file_to_write("--output", table, ".csv", ".parquet")
    for name, path, suffix in (
        ("--manifest", options.manifest, ".csv"),
        ("--label-studio", options.label_studio, ".json"),
    ):
        if path is not None:
            check_file_to_write(name, path, suffix)
    if options.folder is not None and not options.folder.parent.is_dir():
        raise ValueError(f"--folder {options.folder}: there is no directory {options.folder.parent}; make it first")
    from assl_lightning.commands.predicting import RunPredictor  # torch is imported once the arguments are right

    predictor = RunPredictor(options.run_dir, device=options.device)
    _check_files(options, predictor)
    images = _predict(options, predictor)
    shown = [image for image in images if options.above is None or image.confidence >= options.above]
    written, *others = _write(options, shown, table, predictor)
    lines = [f"{_counted(options, shown, images)}: {written}", *others, *_worth(options, images, predictor)]
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _write(
    options: argparse.Namespace, images: Sequence[PredictedImage], table: Path, predictor: RunPredictor
) -> Iterator[str]:
    """Write the files, and yield the path of the table and a line for each other file."""
    write_table(images, table)
    yield str(table)
    if options.folder or options.manifest:
        together = [*_labelled(predictor), *_taken_for_labels(images)]
        if options.folder:
            write_links(together, options.folder)
            yield f"labelled and predicted, {counted(len(together), 'link')}: {options.folder}"
        if options.manifest:
            write_manifest(together, options.manifest)
            yield f"labelled and predicted, {counted(len(together), 'image')}: {options.manifest}"
    if options.label_studio:
        write_label_studio(images, options.label_studio, options.image_root)
        yield f"for Label Studio, {counted(len(images), 'task')}: {options.label_studio}"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m assl_lightning.predict",
        description="Predict the class of every image of a run's pool that has no label, or of the images that are "
        "named, with the averaged weights of its newest training; the most certain first.",
    )
    parser.add_argument("run_dir", type=path_argument, metavar="RUN_DIR", help="the directory of a run")
    parser.add_argument(
        "paths", nargs="*", default=(), type=path_argument, metavar="PATH", help="image files or directories of them"
    )
    parser.add_argument(
        "--output", type=path_argument, help=f"the table, .csv or .parquet; default: {TABLE} in the run's directory"
    )
    parser.add_argument(
        "--above", type=number_above(0, 1), metavar="P", help="only predictions of at least this confidence, in (0, 1]"
    )
    parser.add_argument(
        "--folder", type=path_argument, help="a new directory of links to all labelled and predicted images, by class"
    )
    parser.add_argument(
        "--manifest", type=path_argument, help="a table of the labelled and predicted images, for data=manifest"
    )
    parser.add_argument(
        "--label-studio", type=path_argument, metavar="FILE", help="tasks with predictions (JSON); needs --image-root"
    )
    parser.add_argument(
        "--image-root", type=path_argument, metavar="DIR", help="the document root from which Label Studio serves files"
    )
    parser.add_argument("--device", default="cpu", help="a device of torch, such as cuda; default: cpu")
    return parser


def _beside_the_run(options: argparse.Namespace) -> Path:
    """Return the default table; images that are named have none, since each call would write over the last."""
    if options.paths:
        raise ValueError("--output: name the table for the images that you name, such as --output new.csv")
    return Path(options.run_dir) / TABLE


def _check_files(options: argparse.Namespace, predictor: RunPredictor) -> None:
    """Raise where something was asked for that cannot be written, before any image is predicted."""
    asked = [name for name in ("folder", "manifest", "label_studio") if getattr(options, name)]
    if not asked:
        return
    first = f"--{asked[0].replace('_', '-')}"
    if options.paths:
        raise ValueError(f"{first}: is for the images of the pool; leave out {options.paths[0]}")
    paths = [path for path in predictor.source.paths if isinstance(path, Path)]
    if not paths:
        raise ValueError(
            f"{first}: needs images in files of this machine; this run's data have none, so that only --output can be "
            f"had"
        )
    if options.folder:
        check_links({*predictor.class_names, *predictor.labelled.class_names}, options.folder, paths)
    if options.label_studio:
        if not options.image_root:
            raise ValueError("--label-studio: add --image-root DIR, the document root of Label Studio")
        check_root(paths, options.image_root)


def _predict(options: argparse.Namespace, predictor: RunPredictor) -> list[PredictedImage]:
    with progress() as tell:
        if options.paths:
            names, predictions = predictor.predict_files(options.paths, tell)
            paths: list[Path | None] = [Path(name) for name in names]
            uncertainty = [nan] * len(names)
        else:
            index = predictor.unlabelled
            predictions = predictor.predict_pool(index, tell)
            source = predictor.source
            names = [source.sample_ids[sample] for sample in index.tolist()]
            files = [source.paths[sample] if source.paths else None for sample in index.tolist()]
            paths = [file if isinstance(file, Path) else None for file in files]
            uncertainty = predictor.uncertainty(index).tolist()
    return _sorted(names, paths, uncertainty, predictions)


def _sorted(
    names: Sequence[str], paths: Sequence[Path | None], uncertainty: Sequence[float], predictions: Predictions
) -> list[PredictedImage]:
    """Return the images, the most certain first, and equally certain ones by their names."""
    classes = predictions.class_names
    images = [
        PredictedImage(name, classes[label], confidence, classes[second], second_confidence, uncertain, path)
        for name, path, uncertain, label, confidence, second, second_confidence in zip(
            names,
            paths,
            uncertainty,
            predictions.label.tolist(),
            predictions.confidence.tolist(),
            predictions.second_label.tolist(),
            predictions.second_confidence.tolist(),
            strict=True,
        )
    ]
    return sorted(images, key=lambda image: (-image.confidence, image.sample_id))


def _labelled(predictor: RunPredictor) -> Iterator[LabelledImage]:
    labelled, source = predictor.labelled, predictor.source
    for sample, name, is_held_out in zip(
        labelled.index.tolist(), labelled.class_names, labelled.is_held_out, strict=True
    ):
        path = source.paths[sample]
        assert isinstance(path, Path)  # `_check_files`
        yield LabelledImage(source.sample_ids[sample], name, path, is_held_out)


def _taken_for_labels(images: Sequence[PredictedImage]) -> Iterator[LabelledImage]:
    for image in images:
        assert image.path is not None
        yield LabelledImage(image.sample_id, image.class_name, image.path)


def _counted(options: argparse.Namespace, shown: Sequence[PredictedImage], images: Sequence[PredictedImage]) -> str:
    all_of_them = f"{counted(len(images), 'image')}{'' if options.paths else ' without a label'}"
    if options.above is None:
        return all_of_them
    return f"{len(shown):,} of {all_of_them} with a confidence of at least {options.above:g}"


def _worth(options: argparse.Namespace, images: Sequence[PredictedImage], predictor: RunPredictor) -> Iterator[str]:
    """Yield what is known of the confidence, and of the error of predictions that are trusted."""
    if predictor.newer_answers and not options.paths:
        answers = counted(predictor.newer_answers, "answer")
        yield f"{answers} of people since the newest training: taken over here, though it has not seen them"
    check = predictor.check
    if check is None:
        yield "confidence: as the network gives it; there are no labelled images by which it could be checked"
        return
    count = counted(check.calibrating, f"{check.kind} image")
    if check.temperature is None:
        yield f"confidence: as the network gives it, since {count} are too few to calibrate it"
    else:
        yield f"confidence: calibrated on {count} (temperature {check.temperature:.2f})"
    bound = options.above or _TRUSTED
    share = sum(image.confidence >= bound for image in images) / max(len(images), 1)
    wrong, above, (low, high) = check.error_above(bound)
    found = f"{per_cent(share)} % of the images have a confidence of at least {bound:g}"
    if not above:
        yield f"{found}; none of the {check.kind} images has, so that nothing is known of their error"
        return
    say = "is" if wrong == 1 else "are"
    error = f"{per_cent(wrong / above)} % [{per_cent(low)}, {per_cent(high)}]"
    yield f"{found}; of the {above} {check.kind} images that have as much, {wrong} {say} wrong: {error}"
