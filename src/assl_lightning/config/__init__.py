"""From YAML and overrides to a validated configuration, and from there to objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assl_lightning.base.faces import make_face

if TYPE_CHECKING:
    from assl_lightning.config import compose as compose
    from assl_lightning.config.classifier import Classifier as Classifier
    from assl_lightning.config.classifier import Prediction as Prediction
    from assl_lightning.config.classifier import load_classifier as load_classifier
    from assl_lightning.config.compose import conf_dir as conf_dir
    from assl_lightning.config.reading import read as read
    from assl_lightning.config.schema import Config as Config
    from assl_lightning.config.schema import ConfigurationError as ConfigurationError

__getattr__, __dir__ = make_face(
    __name__,
    {
        "config.classifier": ["Classifier", "Prediction", "load_classifier"],
        "config.compose": ["compose", "conf_dir"],
        "config.reading": ["read"],
        "config.schema": ["Config", "ConfigurationError"],
    },
)
