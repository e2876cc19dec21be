"""ALFA-Mix: label samples whose prediction changes when their features are mixed with those of labelled samples.

Parvaneh et al. 2022: Active Learning by Feature Mixing; the flags are those of its reference code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from assl_lightning.acquisition.alfa_mix_flips import Mixing, flag_closed_form, flag_optimised, make_caps
from assl_lightning.acquisition.draw_rest import draw_rest
from assl_lightning.acquisition.kmeans import fit_kmeans
from assl_lightning.base.arguments import require_one_of
from assl_lightning.base.copies import first_copies
from assl_lightning.base.seeding import derive_key, make_generator
from assl_lightning.base.ties import head_in_float64, to_float64
from assl_lightning.method.candidates import Candidates, LabelledSamples, Requirement, Selection
from assl_lightning.method.top_k import check_budget, check_finite, in_index_order

Variant = Literal["opt", "closed"]

_CAP_STEP: dict[Variant, float] = {"opt": 1 / 32, "closed": 0.2}


@final
@dataclass(frozen=True)
class ALFAMix:
    """Spread the picks over the candidates whose prediction flips when mixed with a class's mean labelled features.

    The cap on the mixing weights grows until more than `budget` candidates are flagged. Their features, scaled to
    length 1, make min(`budget`, flagged) clusters, and the member nearest to each centre is picked. Where flags are too
    few, or copies of one sample leave a cluster empty, the rest is drawn uniformly from everything that was not picked;
    the reference draws it with replacement, and so may label fewer than `budget`.

    Args:
        variant: how the mixing weights are found: "opt", by descent, for any head, or "closed", by a closed form, for
            an affine head. Each names in `alfa_mix_flips` where it differs from the reference.
        cap_step: by how much the cap grows, in (0, 1]; None is 1/32 for "opt" and 0.2 for "closed".
        kmeans_starts: k-means runs, of which the best counts; 10 as in the reference, whose scikit-learn 0.23 made as
            many. One takes a tenth of the time; 10 lower the inertia by 5.9 % (10 clusters of 40 of scikit-learn's
            digits at length 1), 3.0 % (10 of 100) and 1.4 % (100 of 1,287), and change 22 to 64 % of the picks.
    """

    variant: Variant = "opt"
    cap_step: float | None = None
    kmeans_starts: int = 10
    requires: ClassVar[frozenset[Requirement]] = frozenset({"logits", "features", "labelled", "head"})

    def __post_init__(self) -> None:
        require_one_of("variant", self.variant, Variant)
        if self.cap_step is not None and not 0 < self.cap_step <= 1:
            raise ValueError(f"cap_step is a share of the way to an anchor, in (0, 1]; got {self.cap_step}")
        if self.kmeans_starts < 1:
            raise ValueError(f"kmeans_starts must be at least 1 run; got {self.kmeans_starts}")

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        """Select one for each cluster, then those drawn at random. Without scores: a candidate is flagged or is not.

        A feature or a logit that is not finite is an error that names the sample.
        """
        mixing = _prepare(candidates, budget)
        key = int(torch.randint(2**63 - 1, (), generator=generator))  # all that is taken from the generator
        caps = make_caps(_CAP_STEP[self.variant] if self.cap_step is None else self.cap_step)
        if self.variant == "closed":
            flagged = flag_closed_form(mixing, caps, budget)
        else:
            flagged = flag_optimised(mixing, caps, budget, derive_key(key, "weights"))

        index = mixing.index.cpu()
        picks = index[:0]
        if bool(flagged.any()):
            features = mixing.features[flagged.to(mixing.features.device)]
            features = F.normalize(features, dim=1)[first_copies(features)]
            clusters = min(budget, len(features))
            picks = index[flagged][
                nearest_to_centres(features, clusters, self.kmeans_starts, derive_key(key, "kmeans"))
            ]
        return Selection(draw_rest(picks, index, budget, make_generator(key, "rest")))


def class_anchors(labelled: LabelledSamples, classes: int) -> Tensor:
    """Return the mean labelled features of each class, of all where a class has none: (C, d) float64 on the CPU."""
    if len(labelled.index) == 0:
        raise ValueError(
            "ALFA-Mix mixes with labelled samples, and none is labelled; start from a labelled set, or use "
            "acquisition=random for the first round"
        )
    labels, features = labelled.labels.cpu().long(), labelled.features.detach().cpu().double()
    unknown = (labels < 0) | (labels >= classes)
    if bool(unknown.any()):
        raise ValueError(
            f"the label of sample {int(labelled.index.cpu()[unknown].min())} must be one of the {classes} classes that "
            f"the logits have, 0 … {classes - 1}; got {int(labels[unknown][0])}"
        )
    count = torch.bincount(labels, minlength=classes)[:, None]
    total = torch.zeros(classes, features.shape[1], dtype=torch.float64).index_add_(0, labels, features)
    return torch.where(count > 0, total / count, features.mean(0))


def nearest_to_centres(points: Tensor, clusters: int, starts: int, seed: int) -> Tensor:
    """Return the member nearest to the centre of each k-means cluster; of members as near, to five digits, the first.

    `points` (n, d) and the other arguments are those of `fit_kmeans`.

    Returns:
        (at most `clusters`,) int64 distinct rows of `points`, on the CPU; of copies the first.
    """
    clusters_of, centres = (values.numpy() for values in fit_kmeans(points, clusters, starts, seed))
    distance = np.square(points.cpu().double().numpy() - centres[clusters_of]).sum(1)
    least = np.full(len(centres), np.inf)
    np.minimum.at(least, clusters_of, distance)
    # Both members of a cluster of two are as near, and rounding must not choose.
    near = np.flatnonzero(distance <= least[clusters_of] * (1 + 1e-5) + 1e-12)
    _, first = np.unique(clusters_of[near], return_index=True)
    return torch.from_numpy(near[first])


def _prepare(candidates: Candidates, budget: int) -> Mixing:
    """Return the candidates and anchors to mix, in index order, or raise for numbers that cannot be mixed."""
    features, logits = to_float64(candidates.require("features")), to_float64(candidates.require("logits"))
    labelled, head = candidates.require("labelled"), candidates.require("head")
    check_budget(budget, len(candidates))
    index, features, logits = in_index_order(candidates.index.to(features.device), features, logits.to(features.device))
    check_finite("length of the feature vector", torch.linalg.vector_norm(features, dim=1), index)
    check_finite("largest logit", logits.abs().amax(1), index)
    check_finite("length of the feature vector", torch.linalg.vector_norm(labelled.features, dim=1), labelled.index)
    anchors = class_anchors(labelled, logits.shape[1]).to(features.device)
    return Mixing(index, features, logits, anchors, head_in_float64(head, features.device))
