"""Regions of images follow crops and flips, and are samples of the table; against a float64 reference."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from assl_lightning import ASSLScoreCallback, IndexedDataset, RegionGrid, observe
from assl_lightning.commands.query import main
from tests.observe.fits import Module, el2n, fit, symmetric_kl
from tests.shell import run_python

IMAGES, HEIGHT, WIDTH = 7, 10, 13
GRID = RegionGrid(2, 3)
NOWHERE: Any = "somewhere"


class Scenes(Dataset[Any]):
    """Scenes padded by two, cropped and flipped by chance, image, mask and region map alike."""

    def __init__(self, *, is_moved: bool = True) -> None:
        self.image = torch.randn(IMAGES, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
        self.is_moved = is_moved

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        mask = (self.image[i, 0] > 0).long().masked_fill(self.image[i, 1] > 1, 255)
        parts = {"image": self.image[i], "mask": mask, "region_map": GRID.map(HEIGHT, WIDTH)}
        return self.view(parts) if self.is_moved else parts

    def view(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        fill = {"image": 0.0, "mask": 255, "region_map": -1}
        top, left, flip = torch.randint(0, 7, (3,)).tolist()
        moved = {}
        for name, part in parts.items():
            crop = F.pad(part, (2, 2, 2, 2), value=fill[name])[..., top : top + 8, left : left + 8]
            moved[name] = crop.flip(-1) if flip % 2 else crop
        return moved


class Segmentation(Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Conv2d(3, 3, 3, padding=1)  # type: ignore[assignment]
        self.views: list[tuple[Any, Tensor, Tensor]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        weak, strong = self.model(batch["image"]), self.model(batch["image"] + 0.3)
        self.views.append((batch, weak.detach().double(), strong.detach().double()))
        loss: Tensor = F.cross_entropy(weak, batch["mask"].clamp(max=2)) + (weak - strong).square().mean()
        return loss


INDEX = [3, 0, 3, 5, 1, 0, 6, 3, 2, 5, 5, 4]
"""The order of a pass: images that come twice in a batch, and batches that are not equally large."""


def fitted(*, ignore: bool, **settings: Any) -> tuple[ASSLScoreCallback, Segmentation]:
    module = Segmentation()
    more: dict[str, Any] = {"ignore_index": 255, "target": "mask"} if ignore else {}
    maker = observe.regions(
        observe.forward("model", 0, 1), GRID.rows, GRID.columns, region_map="region_map", **more, **settings
    )
    callback = ASSLScoreCallback(observe=maker)
    pool = IndexedDataset(Scenes(), names=[f"{i}.png" for i in range(IMAGES)])
    fit(module, DataLoader(pool, batch_size=5, sampler=INDEX), callback)
    return callback, module


def reference(module: Segmentation, *, ignore: bool, least: int = 1) -> dict[str, Tensor]:
    """Means, variances and visits of each region, (N, R, 2) and (N, R), by loops over the views' pixels."""
    mean, variance = torch.zeros(2, IMAGES, GRID.count, 2, dtype=torch.float64)
    visits = torch.zeros(IMAGES, GRID.count, dtype=torch.int32)
    order = iter(INDEX * 2)
    for batch, weak, strong in module.views:
        for b in range(len(weak)):
            i = next(order)
            for region in range(GRID.count):
                places = batch["region_map"][b] == region
                if ignore:
                    places &= batch["mask"][b] != 255
                seen = [
                    torch.stack([el2n(weak[b, :, y, x]), symmetric_kl(weak[b, :, y, x], strong[b, :, y, x])])
                    for y, x in places.nonzero().tolist()
                ]
                if len(seen) < least:
                    continue
                value = torch.stack(seen).mean(0)
                mean[i, region] = 0.8 * value + 0.2 * mean[i, region]
                variance[i, region] = 0.8 * (value - mean[i, region]) ** 2 + 0.2 * variance[i, region]
                visits[i, region] += 1
    return {"mean": mean, "variance": variance, "visits": visits}


@pytest.mark.parametrize(("ignore", "least"), [(False, 1), (True, 1), (True, 4)])
def test_regions_follow_crops_and_flips(ignore: bool, least: int) -> None:
    callback, module = fitted(ignore=ignore, least_places=least)
    expected, table = reference(module, ignore=ignore, least=least), callback.statistics
    assert 0 in expected["visits"], "some regions are never seen"
    assert table.visits.unflatten(0, (IMAGES, -1)).equal(expected["visits"])
    for found, name, part in (
        (table.uncertainty_mean, "mean", 0),
        (table.inconsistency_mean, "mean", 1),
        (table.uncertainty_variance, "variance", 0),
        (table.inconsistency_variance, "variance", 1),
    ):
        torch.testing.assert_close(
            found.double().unflatten(0, (IMAGES, -1)), expected[name][..., part], rtol=1e-4, atol=1e-7
        )


def test_a_query_answers_pairs() -> None:
    callback, module = fitted(ignore=False)
    expected = reference(module, ignore=False)
    bound = expected["mean"] + torch.tensor([0.5, 2.0]) * expected["variance"].sqrt()
    score = bound.prod(-1).masked_fill(expected["visits"] == 0, torch.nan)
    torch.testing.assert_close(callback.scores().double(), score, rtol=1e-4, atol=1e-7, equal_nan=True)

    def best(k: int, per_image: int = GRID.count, among: Any = lambda _: True) -> list[list[int]]:
        pairs = [[i, r] for i in range(IMAGES) for r in range(GRID.count) if not score[i, r].isnan()]
        picks: list[list[int]] = []
        for pair in sorted(pairs, key=lambda pair: -float(score[pair[0], pair[1]])):
            if among(pair) and [i for i, _ in picks].count(pair[0]) < per_image and len(picks) < k:
                picks.append(pair)
        return picks

    assert callback.query(9).tolist() == best(9)
    for most in (1, 2):
        k = len(best(100, most))
        assert callback.query(k, per_image=most).tolist() == best(k, most)
        assert best(k, most) != best(k)
    some = best(4)
    rest = best(6, 2, lambda pair: pair not in some)
    assert callback.query(6, labelled=torch.tensor(some), per_image=2).tolist() == rest
    assert callback.query(6, labelled=[(i, r) for i, r in some], per_image=2).tolist() == rest
    assert callback.query(6, labelled=[(f"{i}.png", r) for i, r in some], per_image=2).tolist() == rest
    mask = torch.ones(IMAGES, GRID.count, dtype=torch.bool)
    mask[tuple(torch.tensor(some).T)] = False
    assert callback.query(6, candidates=mask, per_image=2).tolist() == rest
    assert callback.query(6, candidates=mask.numpy(), per_image=2).tolist() == rest
    assert callback.query(5, candidates=[3, 5]).tolist() == best(5, among=lambda pair: pair[0] in (3, 5))
    assert callback.query(3, candidates=["3.png", "5.png"]).tolist() == best(3, among=lambda pair: pair[0] in (3, 5))
    assert callback.query(3, labelled=[0, 3]).tolist() == best(3, among=lambda pair: pair[0] not in (0, 3))
    assert callback.query(2, names=True) == [(f"{i}.png", r) for i, r in best(2)]


def test_a_checkpoint_answers_pairs(tmp_path: Path) -> None:
    callback, module = fitted(ignore=False)
    trainer = fit(module, DataLoader(IndexedDataset(Scenes()), batch_size=5), callback, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    (tmp_path / "names.txt").write_text("".join(f"{i}.png\n" for i in range(IMAGES)))
    pairs = callback.query(5, per_image=2).tolist()
    assert ASSLScoreCallback.from_checkpoint(tmp_path / "last.ckpt").query(5, per_image=2).tolist() == pairs
    options = ["--k", "5", "--per-image", "2", "--names", str(tmp_path / "names.txt"), "--to", str(tmp_path / "a.csv")]
    assert main([str(tmp_path / "last.ckpt"), *options]) == 0
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [*rows[0]] == ["rank", "index", "name", "region", "score"]
    assert [[int(row["index"]), int(row["region"])] for row in rows] == pairs
    assert [row["name"] for row in rows] == [f"{i}.png" for i, _ in pairs]
    of_picks = callback.scores()[tuple(torch.tensor(pairs).T)].tolist()
    assert [float(row["score"]) for row in rows] == pytest.approx(of_picks, rel=1e-5)
    other = observe.regions(observe.forward("model", 0, 1), 3, 3)
    with pytest.raises(
        ValueError, match=r"kept of RegionGrid\(rows=2, columns=3\), but here the maker has RegionGrid\(rows=3"
    ):
        ASSLScoreCallback(observe=other).load_state_dict(callback.state_dict())


def test_without_a_map_the_grid_lies_on_the_predictions() -> None:
    tables = []
    for where in (None, "region_map", lambda batch: batch["region_map"].float()):
        maker = observe.regions(observe.forward("model", 0, 1), 2, 3, region_map=where)
        callback = ASSLScoreCallback(observe=maker)
        fit(Segmentation(), DataLoader(IndexedDataset(Scenes(is_moved=False)), batch_size=5), callback)
        assert callback.statistics.visits.tolist() == [2] * IMAGES * GRID.count
        tables.append(callback.scores())
    assert tables[0].equal(tables[1])
    assert tables[0].equal(tables[2])


def test_a_coarser_network_reads_every_stride_th_pixel() -> None:
    maker = observe.regions(observe.keys(), 1, 2, region_map="map", stride=3)
    step = {"index": torch.tensor([4]), "logits_weak": torch.randn(1, 3, 2, 4).double()}
    step["logits_strong"] = step["logits_weak"] + 1
    batch = {"map": torch.full((1, 1, 6, 12), 7)}
    batch["map"][..., 1::3, 1::3] = torch.tensor([[0, 1, -1, 255], [1, 1, -1, -1]])
    found = maker(step, batch, nn.Identity())
    assert found is not None
    u = [[el2n(step["logits_weak"][0, :, y, x]) for y, x in places] for places in ([(0, 0)], [(0, 1), (1, 0), (1, 1)])]
    torch.testing.assert_close(found.uncertainty, torch.stack([torch.stack(of).mean() for of in u]))
    assert found.index.tolist() == [8, 9]


def test_boxes_are_where_the_map_has_their_region() -> None:
    for rows, columns, height, width in ((2, 3, 10, 13), (1, 1, 3, 2), (4, 4, 9, 7), (5, 2, 5, 31)):
        grid = RegionGrid(rows, columns)
        regions = grid.map(height, width)
        assert sorted(regions.unique().tolist()) == list(range(grid.count))
        for region in range(grid.count):
            left, top, right, bottom = grid.box(region, height, width)
            inside = torch.zeros_like(regions, dtype=torch.bool)
            inside[top:bottom, left:right] = True
            assert inside.equal(regions == region)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ({"region_map": NOWHERE}, r"region_map='somewhere' must be a key or position of the batch; it has image, mask"),
        ({"region_map": "image"}, r"region_map='image' has the shape \(5, 3, 8, 8\), but the predictions are of 5 im"),
        ({"region_map": "region_map", "stride": 2}, r"\(5, 4, 4\) at stride=2, .* of 8 × 8 places: crop and fl"),
        ({"region_map": "mask"}, None),  # 0, 1 and 255 might be regions
        ({"region_map": lambda batch: batch["region_map"] + 3}, r"the regions 0 … 5 of 2 × 3, .* it has 6\. Make it w"),
        ({"region_map": lambda batch: batch["region_map"] / 2}, r"it has (0|1|2)\.5\. Make it with RegionGrid\(2, 3\)"),
    ],
)
def test_a_map_that_does_not_fit_is_told_at_the_first_batch(make: Any, message: str | None) -> None:
    callback = ASSLScoreCallback(observe=observe.regions(observe.forward("model", 0, 1), 2, 3, **make))
    torch.manual_seed(0)
    data = DataLoader(IndexedDataset(Scenes()), batch_size=5)
    if message is None:
        fit(Segmentation(), data, callback, max_epochs=1)
        return
    with pytest.raises((ValueError, KeyError), match=message):
        fit(Segmentation(), data, callback, max_epochs=1)


def test_what_cannot_be_asked_is_told() -> None:
    callback, _ = fitted(ignore=False)
    visited = int((callback.statistics.visits.unflatten(0, (IMAGES, -1)) > 0).any(1).sum())
    with pytest.raises(ValueError, match=rf"asked for 40 regions, but with at most 1 an image only {visited} of the"):
        callback.query(40, per_image=1)
    with pytest.raises(IndexError, match=r"candidate \(0, 6\) is no \(image, region\) of the 7 images with 6 regions"):
        callback.query(1, candidates=[(0, 1), (0, 6)])
    with pytest.raises(ValueError, match=r"one entry for each region of each image, shape \(7, 6\); got \(6, 7\)"):
        callback.query(1, candidates=torch.ones(6, 7, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"pairs \(image, region\), \(M, 2\); got shape \(2, 3\)"):
        callback.query(1, candidates=torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="candidates must be distinct pool indices; got 2, 1 of them distinct"):
        callback.query(1, candidates=[(0, 1), (0, 1)])
    with pytest.raises(ValueError, match="per_image must be at least 1"):
        callback.query(1, per_image=0)
    whole = ASSLScoreCallback()
    whole.load_state_dict({"statistics": callback.statistics.state_dict()})
    with pytest.raises(ValueError, match=r"per_image is the most regions .* score regions with observe\.regions"):
        whole.query(1, per_image=1)
    with pytest.raises(ValueError, match="regions have no further statistics, so none to rank by; got by='forgetting'"):
        callback.query(1, by="forgetting")
    with pytest.raises(ValueError, match="regions have no features: leave features=… and head=…"):
        observe.regions(observe.forward("model", head="model"), 2, 2)
    with pytest.raises(ValueError, match="regions have no features: leave keep_features out"):
        ASSLScoreCallback(observe=observe.regions(observe.forward("model"), 2, 2), keep_features=True)
    with pytest.raises(ValueError, match="regions have no further statistics: leave `further` out"):
        ASSLScoreCallback(observe=observe.regions(observe.forward("model"), 2, 2), further=["forgetting"])


SCRIPT = """
import json
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, Dataset
from assl_lightning import ASSLScoreCallback, RegionGrid, observe

class Crops(Dataset):  # two crops of each of 12 images, which both come in one batch
    def __len__(self):
        return 24
    def __getitem__(self, i):
        x = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(i // 2))
        start = slice(i % 3, i % 3 + 3)
        return i // 2, x[:, start, start], RegionGrid(3, 2).map(6, 6)[start, start]

class InOrder(torch.utils.data.Sampler):  # Lightning's own sampler would shuffle what two ranks see
    def __iter__(self):
        return iter(range(trainer.global_rank, 24, {devices}))
    def __len__(self):
        return 24 // {devices}

class Plain(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.model = torch.nn.Conv2d(3, 4, 1)
    def training_step(self, batch, batch_idx):
        index, x, _ = batch
        return {{"loss": (self.model(x) - self.model(x + 0.3)).square().mean(), "index": index}}
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)  # the ranks see parts of the batch

if __name__ == "__main__":
    callback = ASSLScoreCallback(12, observe=observe.regions(observe.forward("model", 0, 1), 3, 2, region_map=2))
    trainer = Trainer(accelerator="cpu", devices={devices}, strategy={strategy!r}, max_epochs=1, logger=False,
                      callbacks=[callback], enable_checkpointing=False, enable_progress_bar=False,
                      use_distributed_sampler=False)
    trainer.fit(Plain(), DataLoader(Crops(), batch_size=8 // {devices}, sampler=InOrder()))
    table = callback.statistics
    print(json.dumps({{"visits": table.visits.tolist(), "scores": callback.scores().tolist(),
                       "picks": callback.query(9, per_image=2).tolist()}}))
"""


@pytest.mark.e2e
def test_two_ranks_keep_the_table_of_one_process(tmp_path: Path) -> None:
    found = []
    for devices, strategy in ((1, "auto"), (2, "ddp_fork")):
        script = tmp_path / f"fit_{devices}.py"
        script.write_text(SCRIPT.format(devices=devices, strategy=strategy))
        environment = {**os.environ, "PYTHONWARNINGS": "ignore", "TMPDIR": str(tmp_path)}
        result = run_python(str(script), env=environment, timeout=200)
        found.append(json.loads(result.stdout.strip().splitlines()[-1]))
    alone, together = found
    assert together["visits"] == alone["visits"]
    assert {*alone["visits"]} == {0, 1, 2}
    scores = [torch.tensor(each["scores"]) for each in found]
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-6, equal_nan=True)
    assert together["picks"] == alone["picks"]
