"""The start of a method, which chose its first labels and weights, apart from its rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assl_lightning.report.analysis.grouping import name_of_group

_INITIAL = "initial_acquisition"
_FEATURES = "initial_features"
_WARM_UP = "warm_up"


def start_of(config: Mapping[str, Any]) -> str:
    """Describe the choice of the initial labels and the training before them, of a run's configuration.

    >>> start_of({"initial_acquisition": "herding", "initial_features": "pixels"})
    'herding of pixels'
    >>> start_of({"initial_acquisition": "random", "warm_up": {"_target_": "assl_lightning.learning.SimCLR"}})
    'random, after simclr'
    """
    initial, warm_up, features = str(config.get(_INITIAL) or "random"), config.get(_WARM_UP), config.get(_FEATURES)
    if features == "auto":
        features = "pixels" if warm_up is None else "network"
    features = "" if initial == "random" or features is None else f" of {features}"
    return f"{initial}{features}" + ("" if warm_up is None else f", after {name_of_group(warm_up)}")


def rule_of(method: str) -> str:
    """Return the name of a method without the parts that describe the start.

    >>> rule_of("herding, initial_acquisition=herding, warm_up.steps=400, c_u=0")
    'herding, c_u=0'
    """
    parts = method.split(", ")
    return ", ".join(
        part for part in parts if part.partition("=")[0].split(".")[0] not in (_INITIAL, _FEATURES, _WARM_UP)
    )
