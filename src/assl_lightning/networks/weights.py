"""Load all weights of a network from a local file, except those of a head for other classes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from assl_lightning.base.paths import expanded
from assl_lightning.base.words import first_few, first_line

log = logging.getLogger(__name__)

_KEYS = ("state_dict", "model")  # under which checkpoints have their weights
_OF_RUN = "assl_lightning"  # key of a run's own checkpoint, in which an algorithm's state is beside its network's
_NAMED = 5  # of the weights that do not fit, in an error
_ODD_CONTENT = (AttributeError, AssertionError, EOFError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


def load_weights(network: nn.Module, head: str, file: str | Path) -> None:
    """Load the weights of `network` from a file: .safetensors, or .pth or .pt as torch saves them; no code of it runs.

    `head` names the layer that computes the logits: where the file has no such weights of its shape, it stays as it is,
    with a message. All other weights must be there and fit, and none may be left over, except the counters of batch
    norms, which old files lack, and the auxiliary heads of GoogLeNet and Inception v3, which these networks do not
    have. A prefix that all names share, because the network was wrapped when it was saved (module., model., _orig_mod.,
    …), is removed; a run's own final.ckpt can be loaded too.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: it is .safetensors, and safetensors is not installed.
        ValueError: it cannot be read, or its weights are another network's: the first five are named.
    """
    path = expanded(file)
    wanted = network.state_dict()
    unwrapped, prefixes = _unwrapped(_read(path), wanted, head)
    given = {name: value for name, value in unwrapped.items() if name in wanted or not _of_auxiliary_head(name)}
    faults = {name: fault for name in sorted({*given, *wanted}) if (fault := _fault(name, given, wanted))}
    of_head = {name for name in (*given, *wanted) if name.rpartition(".")[0] == head}
    others = [f"{name} {fault}" for name, fault in faults.items() if name not in of_head]
    if others:
        raise ValueError(
            f"{path} must hold the weights of this very {type(network).__name__}, but for its head {head}: "
            f"{first_few(others, _NAMED, '; ')}. {_advice(prefixes)}"
        )
    without = of_head if faults.keys() & of_head else set()
    network.load_state_dict(wanted | {name: value for name, value in given.items() if name not in without})
    _tell(f"{path}: taken, but for the head {head}, which begins anew" if without else f"{path}: taken, with its head")


def _of_auxiliary_head(name: str) -> bool:
    return name.startswith(("aux1.", "aux2.", "AuxLogits."))


def _fault(name: str, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    if name not in given:
        return None if name.endswith("num_batches_tracked") else "is missing"
    if name not in wanted:
        return "is no weight of this network"
    if given[name].shape != wanted[name].shape:
        return f"has the shape {tuple(given[name].shape)}, here {tuple(wanted[name].shape)}"
    return None


@cache
def _tell(message: str) -> None:
    """Log a message once in a process: every round makes its network again."""
    log.info("%s", message)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(
            f"weights must be a local file, .pth, .pt or .safetensors; there is no {path}. Nothing is downloaded: "
            f"fetch it first"
        )
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    nested: Mapping[Any, Any] = next((content[key] for key in _KEYS if isinstance(content.get(key), Mapping)), content)
    weights = {str(name): value for name, value in nested.items() if isinstance(value, Tensor)}
    if _OF_RUN in content:
        weights = {name: value for name, value in weights.items() if name.startswith("network.")}
    if not weights:
        raise ValueError(f"{path} must hold weights by their names; it has {', '.join(map(str, nested)) or 'nothing'}")
    return weights


def _unwrapped(
    given: dict[str, Tensor], wanted: Mapping[str, Tensor], head: str
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the weights by their names in the network, and the prefixes that only some of them have.

    If the network was wrapped, all names begin alike. In a run's own checkpoint the head is beside the rest, as in an
    `AdaptedNetwork`.
    """
    prefixes = _prefixes(given, wanted)
    for prefix in prefixes:
        own_head = f"{prefix.removesuffix('body.')}head."
        renamed = {
            name.removeprefix(prefix) if name.startswith(prefix) else name.replace(own_head, f"{head}."): value
            for name, value in given.items()
            if name.startswith((prefix, own_head))
        }
        if len(renamed) == len(given):
            return renamed, []
    return given, prefixes


def _prefixes(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Return prefixes that turn wanted names into the given ones, those of the most names first."""
    counts = Counter(
        given_name[: -len(name)] for name in wanted for given_name in given if given_name.endswith(f".{name}")
    )
    return [prefix for prefix, count in counts.most_common() if count > len(wanted) // 2]


def _advice(prefixes: list[str]) -> str:
    if not prefixes:
        return "Choose the network that they are of, with its image size and channels"
    return (
        f"Most would fit without the prefix {' or '.join(prefixes)}, which others do not have: save those alone, by "
        f"the names that they have without it"
    )


def _read_torch(path: Path) -> Mapping[Any, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, *_ODD_CONTENT) as error:
        raise ValueError(f"{path} must hold weights, tensors and plain values alone: {first_line(error)}") from error
    if isinstance(content, Mapping):
        return content
    raise ValueError(f"{path} must hold weights by their names; it holds a {type(content).__name__}")


def _read_safetensors(path: Path) -> Mapping[Any, Any]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ImportError(
            f"{path} needs the package safetensors, which is not installed; install it with pip install safetensors, "
            f"or save the weights as .pth"
        ) from error
    try:
        weights: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} must be a file of safetensors ({error}); fetch it again") from error
    return weights
