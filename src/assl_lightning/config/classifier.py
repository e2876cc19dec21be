"""Classification of any images by the network that a run has trained."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from assl_lightning.augment.normalise import Normalise
from assl_lightning.base import tensor_files
from assl_lightning.base.paths import expanded
from assl_lightning.base.run_files import FINAL_CHECKPOINT, require_run
from assl_lightning.config.class_list import with_class_names
from assl_lightning.config.instantiate import make_network
from assl_lightning.config.reading import read_written
from assl_lightning.config.schema import Config
from assl_lightning.data.decoding import ImageFormat, Images, convert, decode, describe_faults, read_all
from assl_lightning.data.folders import find_images
from assl_lightning.data.sources.items import to_pillow
from assl_lightning.loop.class_history import read_history
from assl_lightning.loop.records import read_config
from assl_lightning.networks.base import FeatureNetwork

log = logging.getLogger(__name__)

_NETWORK = "network."  # before a weight's name, in a checkpoint of an algorithm


Picture = str | Path | Image.Image | npt.NDArray[Any] | Tensor
"""One image: a file, a Pillow image, or an array or a tensor as `to_pillow` takes them. Or a directory of files."""


class _ClassAndConfidence(NamedTuple):
    class_name: str
    confidence: float


class Prediction(_ClassAndConfidence):
    """The class of an image, and its probability in [0, 1] by the network; it unpacks into these two.

    Attributes:
        source: the image's file, or its position among the images, as text: "3".
    """

    source: str


@dataclass(frozen=True)
class Classifier:
    """A trained network with the names of its classes and the preparation of an image."""

    network: FeatureNetwork
    class_names: tuple[str, ...]
    form: ImageFormat
    normalise: Normalise

    def classify(self, images: Picture | Iterable[Picture], *, skip_unreadable: bool = False) -> Iterator[Prediction]:
        """Predict the class of each image, in their order.

        Args:
            images: one or several image files, directories (all images below, in the order of their paths), Pillow
                images, or arrays and tensors of uint8.
            skip_unreadable: leave out images that cannot be read, and name them in a warning.

        Raises:
            ValueError: an image cannot be decoded, or there is none.
            OSError: a file cannot be read.
            TypeError: something that is no image.
        """
        for source, probability in self.named_probabilities(images, skip_unreadable=skip_unreadable):
            confidence, label = probability.max(-1)
            prediction = Prediction(self.class_names[int(label)], float(confidence))
            prediction.source = source
            yield prediction

    def probabilities(self, images: Picture | Iterable[Picture], *, skip_unreadable: bool = False) -> Iterator[Tensor]:
        """Give (C,) probabilities for each image, in the order of `class_names`; otherwise as `classify`."""
        return (probability for _, probability in self.named_probabilities(images, skip_unreadable=skip_unreadable))

    def named_probabilities(
        self, images: Picture | Iterable[Picture], *, skip_unreadable: bool = False
    ) -> Iterator[tuple[str, Tensor]]:
        """Give the name of each image, as `Prediction.source`, and its (C,) probabilities; otherwise as `classify`."""
        return self._predict(_listed(images), skip_unreadable)

    def _predict(self, pictures: list[_Named], skip_unreadable: bool) -> Iterator[tuple[str, Tensor]]:
        device = next(self.network.parameters()).device
        skipped: list[str] = []
        for first, images, faults in read_all(
            pictures, partial(_read, form=self.form, may_fail=skip_unreadable), self.form
        ):
            if faults and not skip_unreadable:
                problem = describe_faults([*faults.values()], "list")
                raise ValueError(f"{problem}; leave them out, or classify the others with skip_unreadable=True")
            with torch.inference_mode():
                logits = self.network(self.normalise(torch.from_numpy(images).to(device)))
                probabilities = logits.float().softmax(-1).cpu()
            for index, probability in enumerate(probabilities, first):
                if index not in faults:
                    yield pictures[index].name, probability
            skipped += faults.values()
        if skipped:
            say = "it is" if len(skipped) == 1 else "they are"
            log.warning("%s; %s left out", describe_faults(skipped, "list"), say)


class _Named(NamedTuple):
    name: str
    picture: Picture


def _listed(images: Picture | Iterable[Picture]) -> list[_Named]:
    """Return each image with its name: its file, or its position."""
    if isinstance(images, (str, Path)):
        path = expanded(images)
        files = [path / name for name in find_images(path).images] if path.is_dir() else [path]
        return [_Named(str(file), file) for file in files]
    if isinstance(images, Image.Image) or (isinstance(images, (np.ndarray, Tensor)) and images.ndim < 4):
        return [_Named("0", images)]
    listed: list[_Named] = []
    for position, image in enumerate(images):
        is_path = isinstance(image, (str, Path))
        listed += _listed(image) if is_path else [_Named(str(position), image)]
    return listed


def _read(named: _Named, form: ImageFormat, may_fail: bool) -> Images | str:
    """Return the pixels, or the reason why there are none; a missing file is an error unless it `may_fail`."""
    name, picture = named
    if not isinstance(picture, (str, Path)):
        return convert(to_pillow(picture, f"image {name}"), form, f"image {name}")
    try:
        return decode(Path(picture), form)
    except OSError as error:
        if may_fail:
            return f"{name} ({error.strerror or error})"
        raise


def load_classifier(run_dir: str | Path, *, device: str = "cpu") -> Classifier:
    """Load the newest network of a run, with the averaged weights, whose test accuracy is reported.

    Raises:
        ValueError: the directory holds no run, or none that has trained a network yet.
        ConfigurationError: the run's configuration is not one of this version's.
    """
    run_dir = expanded(run_dir)
    require_run(run_dir)
    config = _config_of(run_dir)
    checkpoint, classes = _newest_checkpoint(run_dir), read_history(run_dir)
    if classes is not None:  # which may have changed since it was trained
        number = int(checkpoint.parent.name.removeprefix("round_"))
        config = with_class_names(config, classes.names(number))
    state = tensor_files.load(checkpoint)["state_dict"]
    network = make_network(config)
    network.load_state_dict(
        {name.removeprefix(_NETWORK): value for name, value in state.items() if name.startswith(_NETWORK)}
    )
    data = config.data
    assert data.mean is not None
    assert data.std is not None
    return Classifier(
        network=network.eval().to(device),
        class_names=tuple(map(str, data.source.get("class_names") or range(data.num_classes))),
        form=ImageFormat(data.image_size, data.channels, data.source.get("resize", "crop")),
        normalise=Normalise(data.mean, data.std),
    )


def _newest_checkpoint(run_dir: Path) -> Path:
    found = {path.parent.name: path for path in run_dir.glob(f"round_*/{FINAL_CHECKPOINT}")}
    if not found:
        raise ValueError(f"{run_dir} must have trained a network, but has no {FINAL_CHECKPOINT} yet; go on with it")
    return found[max(found, key=lambda name: int(name.removeprefix("round_")))]


def _config_of(run_dir: Path) -> Config:
    """Read the run's configuration, without the initial weights of its network, which are not needed any more."""
    config = read_written(read_config(run_dir))
    if "weights" not in config.network:
        return config
    return replace(config, network={**config.network, "weights": None})
