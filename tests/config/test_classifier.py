"""Images classified by what a run has trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from assl_lightning.commands import messages
from assl_lightning.commands.train import main
from assl_lightning.config.classifier import load_classifier
from assl_lightning.data.decoding import ImageFormat
from assl_lightning.loop.records import read_records

pytestmark = pytest.mark.e2e

RUN = [
    *("data=image_folder", "data.root=photos", "data.num_classes=2", "data.image_size=[16,16]", "rounds=1"),
    *(
        "initial_labels=8",
        "labels_per_round=8",
        "warm_up=none",
        "steps_per_round=20",
        "algorithm.batch_size=8",
        "trainer.accelerator=cpu",
    ),
    *("network.width=4", "name=run"),
]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Red ones and blue ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(messages, "set_up_messages", lambda: None)  # process-wide, not ours to change
    paths = [Path("photos", ("blue", "red")[number % 2], f"{number}.png") for number in range(60)]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 30), ((0, number, 255 - number), (255 - number, number, 0))[number % 2]).save(path)
    return paths


@pytest.mark.parametrize(
    "switch",
    [[], pytest.param(["algorithm.module.balanced_head=true"], marks=pytest.mark.slow)],
    ids=["plain", "two heads"],
)
def test_it_is_the_network_that_the_run_has_tested(photos: list[Path], switch: list[str]) -> None:
    assert main([*RUN, *switch]) == 0
    classifier = load_classifier("runs/run/seed_0")
    assert classifier.class_names == ("blue", "red")
    assert classifier.form == ImageFormat((16, 16), 3)
    assert not classifier.network.training

    told = list(classifier.classify(photos))
    assert all(0.5 <= confidence <= 1 for _, confidence in told)
    probabilities = torch.stack(list(classifier.probabilities(list(map(str, photos)))))
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(60))
    assert [name for name, _ in told] == [("blue", "red")[place] for place in probabilities.argmax(-1).tolist()]

    (checkpoint,) = Path("runs/run/seed_0").glob("round_*/final.ckpt")
    state = torch.load(checkpoint, weights_only=True)["state_dict"]  # the averaged weights
    assert all(torch.equal(state[f"network.{name}"], value) for name, value in classifier.network.state_dict().items())
    assert read_records(Path("runs/run/seed_0"))[-1].test_accuracy_ema > 0.9
    assert sum(name == path.parent.name for path, (name, _) in zip(photos, told, strict=True)) > 54


def test_a_later_round_goes_before_an_earlier_one_whatever_their_names(photos: list[Path]) -> None:
    assert main([*RUN, "rounds=0"]) == 0
    run_dir = Path("runs/run/seed_0")
    (run_dir / "round_00").rename(run_dir / "round_100")
    expected = load_classifier(run_dir).network.state_dict()
    (run_dir / "round_99").mkdir()
    (run_dir / "round_99" / "final.ckpt").write_bytes(b"an earlier one")
    assert load_classifier(run_dir).network.state_dict().keys() == expected.keys()


def test_the_weights_that_a_network_began_from_are_not_needed_any_more(photos: list[Path]) -> None:
    import torchvision

    network = ["network=torchvision", "network.name=resnet18", "network.weights=weights.pth"]
    torch.save(torchvision.models.resnet18(num_classes=2).state_dict(), "weights.pth")
    assert main([*(one for one in RUN if "width" not in one), *network, "rounds=0", "steps_per_round=1"]) == 0
    Path("weights.pth").unlink()
    assert len(list(load_classifier("runs/run/seed_0").classify(photos[:3]))) == 3


def test_it_takes_files_directories_and_images_in_memory(
    photos: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main([*RUN, "rounds=0", "steps_per_round=1"]) == 0
    classifier = load_classifier("runs/run/seed_0")
    told = dict(zip(photos, classifier.classify(photos), strict=True))
    assert [prediction.source for prediction in told.values()] == list(map(str, photos))
    below = list(classifier.classify("photos"))
    assert below == [told[path] for path in sorted(photos, key=str)]
    assert [prediction.source for prediction in below] == sorted(map(str, photos))
    assert list(classifier.classify([Path("photos", "red"), photos[0]]))[-1] == told[photos[0]]
    assert list(classifier.classify(str(photos[5]))) == [told[photos[5]]]

    opened = Image.open(photos[5])
    array = np.asarray(opened)
    for one in (opened, array, torch.from_numpy(array.copy()).permute(2, 0, 1)):
        assert list(classifier.classify(one)) == [told[photos[5]]]
    several = list(classifier.classify([array, photos[0], opened]))
    assert several == [told[photos[5]], told[photos[0]], told[photos[5]]]
    assert [prediction.source for prediction in several] == ["0", str(photos[0]), "2"]
    assert list(classifier.classify(np.stack([array, array]))) == [told[photos[5]]] * 2

    photos[3].write_bytes(b"GIF89a")
    rest = list(classifier.classify([*photos, "gone.png"], skip_unreadable=True))
    assert rest == [told[path] for path in photos if path != photos[3]]
    assert len(list(classifier.probabilities("photos", skip_unreadable=True))) == 59
    assert f"2 of the list's images cannot be decoded: {photos[3]} (" in caplog.text
    assert "gone.png (No such file or directory); they are left out" in caplog.text


def test_what_is_wrong_is_said(photos: list[Path]) -> None:
    with pytest.raises(ValueError, match="must be the directory of a run; there is no such directory"):
        load_classifier("runs/run/seed_0")
    assert main([*RUN, "rounds=0"]) == 0
    photos[3].write_bytes(b"GIF89a")
    classifier = load_classifier("runs/run/seed_0")
    cannot = (
        rf"1 of the list's images cannot be decoded: {photos[3]} \([^()]+\); leave them out, or classify the others"
    )
    with pytest.raises(ValueError, match=cannot):
        list(classifier.classify(photos))
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        list(classifier.classify("gone.png"))
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        list(classifier.classify([photos[0], "gone.png"]))
    with pytest.raises(TypeError, match="image 1: an image must be a Pillow image, an array or a tensor; got int"):
        list(classifier.classify([np.zeros((4, 4), np.uint8), 3]))  # type: ignore[list-item]
    Path("runs/run/seed_0/round_00/final.ckpt").unlink()
    with pytest.raises(ValueError, match=r"must have trained a network, but has no final\.ckpt yet; go on with it"):
        load_classifier("runs/run/seed_0")
