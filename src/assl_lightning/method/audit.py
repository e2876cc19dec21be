"""Audit of a statistic: how well it ranked the wrongly predicted among the samples of earlier queries."""

from __future__ import annotations

from torch import Tensor

_MEMORY = 0.7  # weight of a query, for each round since
_DOUBT = 10.0  # imagined samples with an AUROC of ½, which are added to those of the queries


def audited_trust(statistic: Tensor, wrong: Tensor, rounds_ago: Tensor) -> float:
    """Return the trust κ = 2A − 1 in [0, 1] in a statistic; 0 if nothing is known, or A ≤ ½.

    A = (n · AUROC + 10 · ½) / (n + 10), where AUROC is that of the statistic for wrong predictions, each sample
    weighted by 0.7^rounds ago. With the sums of these weights over wrong and right predictions,
    n = 2 · wrong · right / (wrong + right), which is 0 if all were right, or all wrong.

    Args:
        statistic: (P,) floating-point, when the sample was picked; larger should mean more likely wrong.
        wrong: (P,) bool, True if the predicted class was not the label.
        rounds_ago: (P,) int64 ≥ 1, since the sample was picked.

    >>> import torch
    >>> wrong = torch.tensor([True, True, False, False])
    >>> round(audited_trust(torch.tensor([0.9, 0.8, 0.2, 0.1]), wrong, rounds_ago=torch.ones(4)), 3)
    0.123
    """
    from sklearn.metrics import roc_auc_score  # here, so that the callback does not wait for it

    weight = _MEMORY ** rounds_ago.cpu().double()
    wrong = wrong.cpu()
    of_wrong, of_right = float(weight[wrong].sum()), float(weight[~wrong].sum())
    if not (of_wrong and of_right):
        return 0.0
    evidence = 2 * of_wrong * of_right / (of_wrong + of_right)
    auroc = roc_auc_score(wrong.numpy(), statistic.cpu().double().numpy(), sample_weight=weight.numpy())
    return max(0.0, 2 * float((evidence * auroc + _DOUBT / 2) / (evidence + _DOUBT)) - 1)
