"""The card of an exported model: README.md in the layout of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from assl_lightning.base.version import __version__
from assl_lightning.base.words import counted, per_cent
from assl_lightning.loop.records import read_config, trained_records

if TYPE_CHECKING:
    from assl_lightning.commands.exporting import Format, Metadata
    from assl_lightning.commands.predicting import Check


def model_card(run_dir: Path, kind: Format, file: str, model: Metadata, check: Check | None) -> str:
    """Return the card of the newest model of a run; its licence is for people to fill in.

    Args:
        run_dir: the directory of the run.
        kind: the format of the model.
        file: the name of the model's file, beside the card.
        model: what a program must know of it.
        check: its predictions of labelled images that it was not trained on, where there are any.
    """
    config = read_config(run_dir)
    network = config["network"]
    target = str(network["_target_"])
    record = trained_records(run_dir, config["rounds"])[-1]
    texts = Environment(  # Markdown, so nothing is escaped
        loader=PackageLoader("assl_lightning.commands"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return texts.get_template("model_card.md").render(
        name=config["name"],
        kind=kind,
        file=file,
        model=model,
        network=f"{target} {network['name']}" if "name" in network else target,
        is_timm=target.endswith("timm_network") and kind == "safetensors",
        record=record,
        rounds=counted(record.round, "round"),
        accuracy=None if check is None else _accuracy(check),
        **{group: config[group]["name"] for group in ("data", "acquisition", "algorithm")},
        seed=config["seed"],
        version=__version__,
        commit=(config.get("environment") or {}).get("git_commit", "unknown"),
    )


def _accuracy(check: Check) -> str:
    images = counted(len(check.is_right), f"{check.kind} image")
    low, high = check.accuracy_interval
    return (
        f"{per_cent(float(check.is_right.double().mean()))} % of {images} are classified rightly, "
        f"95 % interval [{per_cent(low)}, {per_cent(high)}] (Wilson)."
    )
