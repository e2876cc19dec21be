"""Label the images on which the networks of the last rounds disagree, without keeping or running these networks again.

    PYTHONPATH=examples python -m assl_lightning name=ensemble acquisition=random acquisition.name=ensemble \\
        acquisition.strategy._target_=ensemble_of_rounds.EnsembleOfRounds \\
        'acquisition.strategy.directory=${run_dir}/ensemble'

Beluch et al. 2018, "The Power of Ensembles for Active Learning in Image Classification", train several networks in each
round. A run has one network a round; what an earlier one predicts for an image never changes, and it predicted every
candidate when it was asked for its own picks. The strategy therefore keeps these predictions, 4 · C + 8 bytes for a
candidate and a round. Earlier networks had fewer labels, so that they differ by more than chance alone.
Run it: python examples/ensemble_of_rounds.py (it ends in `runs/ensemble_of_rounds`)
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from assl_lightning import FixMatch, HeldBackLabels, Pool, PoolDataModule, RoundSettings, run_rounds
from assl_lightning.acquisition import Candidates, Selection
from assl_lightning.augment import Normalise, StrongAugment, WeakAugment
from assl_lightning.base.paths import expanded
from assl_lightning.base.tensor_files import load, save
from assl_lightning.base.ties import comparable
from assl_lightning.data import load_digits
from assl_lightning.method.top_k import top_k_with_drawn_ties
from assl_lightning.networks import SmallCNN


def mutual_information(probabilities: Tensor) -> Tensor:
    """Return H[mean p] − mean H[p] ≥ 0 in nats: (n, M, C) of n networks, NaN where one is not known, → (M,)."""

    def entropy(p: Tensor) -> Tensor:
        return -torch.special.xlogy(p, p).sum(-1)

    return (entropy(probabilities.nanmean(0)) - entropy(probabilities).nanmean(0)).clamp_min(0)


def variation_ratio(probabilities: Tensor) -> Tensor:
    """Return the share of networks that do not vote for the most voted class: (n, M, C) → (M,) in [0, 1)."""
    known = ~probabilities.isnan().any(-1)  # (n, M)
    votes = torch.nn.functional.one_hot(probabilities.nan_to_num().argmax(-1), probabilities.shape[-1])
    return 1 - (votes * known[..., None]).sum(0).amax(-1).double() / known.sum(0)


MEASURES = {"variation_ratio": variation_ratio, "mutual_information": mutual_information}


@dataclass(frozen=True)
class EnsembleOfRounds:
    """The samples on which the networks of the last rounds disagree most; the first query takes the largest entropy.

    A sample that was no candidate in a round is judged by the other networks; by one alone its score is 0. Another
    number of classes is refused; classes that change while their number stays the same cannot be noticed here.

    Args:
        directory: of this run alone, where `ensemble.pt` is kept; the predictions of a round are replaced if the
            round is queried again, as after a kill, and with them go those of later rounds, as of an earlier run.
        networks: how many rounds count, the newest one among them, ≥ 2.
        measure: "variation_ratio", which has few values, so that most picks are drawn; or "mutual_information", which
            is largest where networks are certain of different classes, often of the same two for all picks.
    """

    directory: str
    networks: int = 5
    measure: Literal["variation_ratio", "mutual_information"] = "variation_ratio"
    requires = frozenset({"logits"})

    def __post_init__(self) -> None:
        if self.networks < 2 or self.measure not in MEASURES:
            raise ValueError(
                f"networks must be at least 2, and measure one of {', '.join(MEASURES)}; got {self.networks} and "
                f"{self.measure!r}"
            )

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        """Add the predictions of the round's network to those that are kept, then rank by the disagreement of all."""
        probabilities = candidates.require("logits").detach().cpu().double().softmax(1)
        index = candidates.index.cpu()
        rounds = self._keep(generator.initial_seed(), index, probabilities)
        of_each = torch.stack([_rows(kept, index) for kept in rounds])  # (n, M, C)
        if len(rounds) == 1:
            scores = -torch.special.xlogy(probabilities, probabilities).sum(1)
        else:
            scores = MEASURES[self.measure](of_each)
        scores = comparable(scores)
        return Selection(top_k_with_drawn_ties(scores, index, budget, generator), scores)

    def _keep(self, round_key: int, index: Tensor, probabilities: Tensor) -> list[dict[str, Any]]:
        """Write the predictions of a round, and return those of the last rounds, the newest at the end.

        The loop's generator has a seed that follows from the run's seed and the round, so that it names the round.
        """
        path = expanded(self.directory) / "ensemble.pt"
        kept = load(path)["rounds"] if path.exists() else []
        keys = [one["round_key"] for one in kept]
        earlier = kept[: keys.index(round_key)] if round_key in keys else kept
        for one in earlier:
            if one["probabilities"].shape[1] != probabilities.shape[1]:
                raise ValueError(
                    f"the networks of all rounds must predict the same classes; {path} has predictions of "
                    f"{one['probabilities'].shape[1]} classes, and the newest network predicts "
                    f"{probabilities.shape[1]}; remove the file, and the ensemble begins with this network"
                )
        now = {"round_key": round_key, "index": index, "probabilities": probabilities.float()}
        rounds = [*earlier, now][-self.networks :]
        path.parent.mkdir(parents=True, exist_ok=True)
        save({"rounds": rounds}, path)
        return rounds


def _rows(kept: dict[str, Any], index: Tensor) -> Tensor:
    """Return the probabilities (M, C) float64 that a round's network gave to `index` (M,), NaN where it gave none."""
    size = int(torch.cat([kept["index"], index]).max()) + 1
    rows = torch.full((size, kept["probabilities"].shape[1]), torch.nan, dtype=torch.float64)
    rows[kept["index"]] = kept["probabilities"].double()
    return rows[index]


def main(run_dir: Path = Path("runs/ensemble_of_rounds"), rounds: int = 4, steps_per_round: int = 100) -> list[str]:
    """Make a run on digits, or go on with it; print and return a line for each round."""
    digits = load_digits()
    pool = Pool(len(digits.pool_images), num_classes=10, sample_ids=digits.sample_ids)
    weak = WeakAugment(flip=False)
    datamodule = PoolDataModule(
        pool,
        pool_images=digits.pool_images,
        test_images=digits.test_images,
        test_labels=digits.test_labels,
        normalise=Normalise(mean=(0.3,), std=(0.34,)),
        weak=weak,
        strong=StrongAugment(weak=weak),
        batch_size=16,
        mu=7,
    )
    optimizer = functools.partial(torch.optim.SGD, lr=0.03, momentum=0.9, nesterov=True)
    records = run_rounds(
        pool=pool,
        datamodule=datamodule,
        make_network=lambda: SmallCNN(num_classes=10, channels=1, width=16),
        make_algorithm=lambda network: FixMatch(network, optimizer=optimizer),
        make_trainer=functools.partial(Trainer, accelerator="cpu"),
        acquisition=EnsembleOfRounds(str(run_dir / "ensemble")),
        oracle=HeldBackLabels(digits.hidden_labels),
        settings=RoundSettings(
            rounds=rounds, initial_labels=20, labels_per_round=20, steps_per_round=steps_per_round, weight_ema=0.95
        ),
        run_dir=run_dir,
    )
    lines = []
    for record in records:
        line = f"round {record.round}: {record.labels} labels, test accuracy {record.test_accuracy_raw:.3f}"
        if record.queried:
            with (run_dir / f"round_{record.round:02d}" / "queried.csv").open() as file:
                predicted = [int(row["prediction"]) for row in csv.DictReader(file)]
            wrong = sum(one != truth for one, truth in zip(predicted, record.queried_labels, strict=True))
            line += f"; of {len(predicted)} picks the network had {wrong} wrong"
        lines.append(line)
    print("\n".join(lines))
    return lines


if __name__ == "__main__":
    main()
