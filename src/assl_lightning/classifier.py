"""What a run has trained, for images of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from assl_lightning import build, tensor_files
from assl_lightning.augment.normalise import Normalise
from assl_lightning.class_list import with_class_names
from assl_lightning.data.decoding import ImageFormat, decode_all, describe_faults
from assl_lightning.networks.base import FeatureNetwork
from assl_lightning.paths import expanded
from assl_lightning.records import CONFIG, read_config
from assl_lightning.run_classes import read_history
from assl_lightning.schema import Config, read

_CHECKPOINT = "final.ckpt"
_NETWORK = "network."  # before a weight's name, in a checkpoint of an algorithm


@dataclass(frozen=True)
class Classifier:
    """A trained network, the classes that it tells apart, and what becomes of an image on its way there."""

    network: FeatureNetwork
    class_names: tuple[str, ...]
    form: ImageFormat
    normalise: Normalise

    def classify(self, paths: Sequence[str | Path]) -> Iterator[tuple[str, float]]:
        """For each image file its class and the network's confidence in it, a probability in [0, 1].

        Raises:
            ValueError: images that cannot be decoded.
            OSError: a file cannot be read.
        """
        for probability in self.probabilities(paths):
            confidence, label = probability.max(-1)
            yield self.class_names[int(label)], float(confidence)

    def probabilities(self, paths: Sequence[str | Path]) -> Iterator[Tensor]:
        """For each image file (C,) probabilities in the order of `class_names`; raises as `classify` does."""
        device = next(self.network.parameters()).device
        files, first = [expanded(path) for path in paths], 0
        for images, faults in decode_all(files, self.form):
            if faults:
                told = [f"{files[first + place]} ({fault})" for place, fault in faults.items()]
                raise ValueError(f"{describe_faults(told, 'list')}; leave them out")
            first += len(images)
            with torch.inference_mode():
                logits = self.network(self.normalise(torch.from_numpy(images).to(device)))
                yield from logits.float().softmax(-1).cpu()


def load_classifier(run_dir: str | Path, *, device: str = "cpu") -> Classifier:
    """The newest network of a run, with the averaged weights, by which its test accuracy is told.

    Raises:
        ValueError: the directory holds no run, or none that has trained a network yet.
        ConfigurationError: the run's configuration is not one of this version's.
    """
    run_dir = expanded(run_dir)
    if not (run_dir / CONFIG).exists():
        raise ValueError(f"{run_dir} must be the directory of a run, but has no {CONFIG}; name the run_dir of one")
    config = _config_of(run_dir)
    checkpoint, classes = _newest_checkpoint(run_dir), read_history(run_dir)
    if classes is not None:  # which may have changed since it was trained
        number = int(checkpoint.parent.name.removeprefix("round_"))
        config = with_class_names(config, classes.names(number))
    state = tensor_files.load(checkpoint)["state_dict"]
    network = build.make_network(config)
    network.load_state_dict(
        {name.removeprefix(_NETWORK): value for name, value in state.items() if name.startswith(_NETWORK)}
    )
    data = config.data
    assert data.mean is not None
    assert data.std is not None
    height, width = data.image_size
    return Classifier(
        network=network.eval().to(device),
        class_names=tuple(data.source.get("class_names") or map(str, range(data.num_classes))),
        form=ImageFormat((height, width), data.channels, data.source.get("resize", "crop")),
        normalise=Normalise(data.mean, data.std),
    )


def _newest_checkpoint(run_dir: Path) -> Path:
    found = {path.parent.name: path for path in run_dir.glob(f"round_*/{_CHECKPOINT}")}
    if not found:
        raise ValueError(f"{run_dir} must have trained a network, but has no {_CHECKPOINT} yet; go on with it")
    return found[max(found, key=lambda name: int(name.removeprefix("round_")))]


def _config_of(run_dir: Path) -> Config:
    """What the run was asked for; weights that its network began from are not needed any more."""
    known = {field.name for field in fields(Config)}
    config = read({key: value for key, value in read_config(run_dir).items() if key in known})
    if "weights" not in config.network:
        return config
    return replace(config, network={**config.network, "weights": None})
