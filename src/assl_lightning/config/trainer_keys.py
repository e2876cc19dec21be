"""The keys of trainer: those that Lightning's Trainer has no argument for, and the values of those that it has.

Lightning names values that this package refuses, such as bf16-true, and leaves out "auto" and "gpu"; some wrong values
it takes. Nothing here imports torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from assl_lightning.base.arguments import is_integer
from assl_lightning.base.rules import at_least
from assl_lightning.base.words import closest
from assl_lightning.config.values import Node, as_yaml, read_value, show
from assl_lightning.learning.settings import MatmulPrecision
from assl_lightning.networks.settings import MemoryFormat

TRAINER_KEYS: Mapping[str, Any] = {
    "matmul_precision": MatmulPrecision,
    "memory_format": MemoryFormat,
    "cuda_graph": bool,
}
"""Keys of trainer that are none of Lightning's, with their types."""

_SET_BY_THE_LOOP: Mapping[str, str] = {
    "max_epochs": "use steps_per_round",
    "min_epochs": "use steps_per_round",
    "max_steps": "use steps_per_round",
    "min_steps": "use steps_per_round",
    "max_time": "use steps_per_round",
    "limit_train_batches": "use steps_per_round",
    "limit_val_batches": "the whole test set is always used",
    "barebones": "a run logs and tests",
    "fast_dev_run": "use rounds=0 steps_per_round=1",
    "overfit_batches": "use initial_labels and algorithm.batch_size",
    "check_val_every_n_epoch": "use steps_per_epoch",
    "val_check_interval": "use steps_per_epoch",
    "default_root_dir": "use run_dir",
    "num_sanity_val_steps": "the network is tested where steps_per_epoch says",
    "enable_checkpointing": "use checkpoint.every_n_steps and checkpoint.every_n_seconds",
    "use_distributed_sampler": "the samplers divide each batch among devices themselves",
    "reload_dataloaders_every_n_epochs": "the samplers know the epoch themselves",
    "accumulate_grad_batches": "use algorithm.batch_size, which is the batch of one optimizer step",
}

_TYPES: Mapping[str, Any] = {
    **TRAINER_KEYS,
    "log_every_n_steps": Annotated[int, at_least(1)] | None,
    "num_nodes": Annotated[int, at_least(1)],
    "gradient_clip_val": Annotated[float, at_least(0)] | None,
    "limit_test_batches": Annotated[float, at_least(0)] | None,
    "limit_predict_batches": Annotated[float, at_least(0)] | None,
    "benchmark": bool | None,
    "detect_anomaly": bool | None,
    "inference_mode": bool,
    "sync_batchnorm": bool,
    "enable_progress_bar": bool | None,
    "enable_model_summary": bool | None,
    "enable_autolog_hparams": bool,
    "model_registry": str | None,
}

_CHOICES: Mapping[str, tuple[object, ...]] = {
    "precision": ("32-true", "bf16-mixed", "16-mixed", "auto"),
    "accelerator": ("auto", "cpu", "gpu", "cuda", "mps"),
    "strategy": (
        *("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false"),
        "single_device",
    ),
    "deterministic": (True, False, "warn", None),
    "gradient_clip_algorithm": ("norm", "value", None),
    "profiler": ("simple", "advanced", "pytorch", None),
}
"""Values of Lightning's arguments with which a run works."""

_SHORT: Mapping[str, str] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed", "null": "32-true"}
"""Precisions as Lightning takes them, too → their names in `_CHOICES`."""

_REFUSED_WITH_REASON = re.compile(r"(16|bf16|64)-true|64|ddp_(spawn|fork|notebook)\w*")
"""Values that Lightning takes and a run does not; the Trainer that is tried says why."""

_ANY_CASE = ("accelerator", "strategy", "profiler")
"""Arguments whose names Lightning takes in capital letters, too."""

_OTHER_DEVICES = ("tpu", "hpu", "xla")
"""Accelerators that are no misspelling of another one."""

_OBJECTS = ("accelerator", "strategy", "profiler")
"""Arguments that may be objects, each with its class in _target_."""


def check_trainer(trainer: Node) -> list[str]:
    """Return a line for each key of trainer that the loop sets itself, and for each value that cannot be right."""
    errors = [
        f"{show(f'trainer.{key}', trainer[key])}: the loop over rounds sets this itself; leave it out, {instead}"
        for key, instead in _SET_BY_THE_LOOP.items()
        if key in trainer
    ]
    for key, hint in _TYPES.items():
        if key in trainer:
            read_value(hint, trainer[key], f"trainer.{key}", errors)
    errors += [line for key in _CHOICES if key in trainer for line in _check_choice(key, trainer[key])]
    errors += _check_devices(trainer.get("devices", 1))
    logger = trainer.get("logger", False)
    if logger not in (None, False) and not (isinstance(logger, Mapping) and isinstance(logger.get("_target_"), str)):
        errors.append(
            f"{show('trainer.logger', logger)}: must be a logger's group; choose one with trainer/logger=csv, "
            f"or none with trainer/logger=none"
        )
    return errors


def _check_choice(key: str, value: object) -> list[str]:
    """Return a line, with the nearest choice, if `value` is none of those of `key`."""
    may_be_object = key in _OBJECTS
    if may_be_object and isinstance(value, Mapping) and "_target_" in value:
        return []
    choices = [as_yaml(choice) for choice in _CHOICES[key]]
    written = as_yaml(value.lower() if key in _ANY_CASE and isinstance(value, str) else value)
    short = _SHORT if key == "precision" else {}
    if written in (*choices, *short) or _REFUSED_WITH_REASON.fullmatch(written):
        return []
    near = None if written in _OTHER_DEVICES else closest(written, [*choices, *short])
    hint = "" if near is None else f" (did you mean {short.get(near, near)!r}?)"
    other = f"; for another, give its class in trainer.{key}._target_" if may_be_object else ""
    return [f"{show(f'trainer.{key}', value)}: must be one of {', '.join(choices)}{hint}{other}"]


def _check_devices(devices: object) -> list[str]:
    """Return a line unless these are a number of devices, their numbers, or all that there are (auto, −1)."""
    if devices in ("auto", "-1", -1):
        return []
    parts = devices.split(",") if isinstance(devices, str) else devices if isinstance(devices, list) else [devices]
    numbers = [
        int(part) if isinstance(part, str) and part.strip().isdecimal() else part for part in parts if part != ""
    ]
    is_count = isinstance(devices, int) or (len(parts) == 1 and isinstance(devices, str))
    if numbers and all(is_integer(number, 1 if is_count else 0) for number in numbers):
        return []
    return [f"{show('trainer.devices', devices)}: must be a number of devices, a list of their numbers, or auto"]
