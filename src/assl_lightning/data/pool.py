"""Who is labelled, since which round, and with which label; nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

UNLABELLED = -1
EXCLUDED = -2


class Pool:
    """The N samples of a run. A sample is its index, 0 ≤ index < N, and keeps it for ever.

    Args:
        num_samples: N.
        num_classes: C; labels lie in [0, C).
        sample_ids: N stable, distinct names that people know the samples by. None: the index as text.

    Attributes:
        labelled_in_round: (N,) int32, −1 unlabelled, 0 initial, r + 1 queried after the training of round r, −2
            excluded.
        labels: (N,) int32, −1 where unknown.
    """

    def __init__(self, num_samples: int, num_classes: int, sample_ids: Sequence[str] | None = None) -> None:
        if num_samples < 1 or num_classes < 1:
            raise ValueError(
                f"a pool needs at least one sample and one class; got num_samples = {num_samples} and "
                f"num_classes = {num_classes}"
            )
        if sample_ids is not None and (len(sample_ids) != num_samples or len(set(sample_ids)) != num_samples):
            raise ValueError(
                f"sample_ids must be {num_samples} distinct names, one for each sample; got {len(sample_ids)}, "
                f"{len(set(sample_ids))} of them distinct"
            )
        self.num_samples = num_samples
        self.num_classes = num_classes
        self.sample_ids = tuple(sample_ids) if sample_ids is not None else tuple(map(str, range(num_samples)))
        self._has_names = sample_ids is not None
        self.labelled_in_round = torch.full((num_samples,), UNLABELLED, dtype=torch.int32)
        self.labels = torch.full((num_samples,), -1, dtype=torch.int32)

    @property
    def labelled(self) -> Tensor:
        """(L,) int64 indices with a label, ascending."""
        return (self.labelled_in_round >= 0).nonzero()[:, 0]

    @property
    def unlabelled(self) -> Tensor:
        """(M,) int64 indices without a label, ascending; excluded samples are neither."""
        return (self.labelled_in_round == UNLABELLED).nonzero()[:, 0]

    def label(self, index: Tensor, label: Tensor, round_number: int) -> None:
        """Label samples; all of them or, if anything is wrong, none.

        Args:
            index: (K,) int64, distinct and unlabelled so far.
            label: (K,) int64 in [0, C).
            round_number: the first round that trains on them, ≥ 0 (0 is the initial set).
        """
        self.check_unlabelled(index)
        if label.shape != index.shape:
            raise ValueError(f"{len(index)} samples need {len(index)} labels; got shape {tuple(label.shape)}")
        wrong = ((label < 0) | (label >= self.num_classes)).nonzero()[:, 0]
        if len(wrong):
            raise ValueError(
                f"sample {int(index[wrong[0]])} was given the label {int(label[wrong[0]])}; labels are "
                f"0 … {self.num_classes - 1}"
            )
        if round_number < 0:
            raise ValueError(f"samples are labelled for a round ≥ 0; got {round_number}")
        self.labelled_in_round[index] = round_number
        self.labels[index] = label.to(torch.int32)

    def exclude(self, index: Tensor) -> None:
        """Take unlabelled samples out of the run for good: (K,) int64. They keep their indices."""
        self.check_unlabelled(index)
        self.labelled_in_round[index] = EXCLUDED

    def check_unlabelled(self, index: Tensor) -> None:
        """Raise unless `index` is (K,) int64, distinct and of samples without a label that are not excluded."""
        if index.dtype != torch.int64 or index.ndim != 1:
            raise ValueError(f"index must be int64 of shape (K,); got {index.dtype} of shape {tuple(index.shape)}")
        outside = index[(index < 0) | (index >= self.num_samples)]
        if len(outside):
            raise IndexError(f"sample {int(outside[0])} lies outside the pool's 0 … {self.num_samples - 1}")
        distinct, counts = index.unique(return_counts=True)
        if len(distinct) != len(index):
            raise ValueError(f"sample {int(distinct[counts > 1][0])} was named twice in one request; name each once")
        taken = index[self.labelled_in_round[index] != UNLABELLED]
        if len(taken):
            sample = int(taken[0])
            since = int(self.labelled_in_round[sample])
            state = "excluded" if since == EXCLUDED else f"labelled since round {since}"
            raise ValueError(f"sample {sample} ({self.sample_ids[sample]}) is {state}; it cannot be labelled again")

    @cached_property
    def _names_digest(self) -> Tensor:
        """(16,) uint8, of the sample ids in their order."""
        digest = hashlib.blake2b(digest_size=16)
        for name in self.sample_ids:
            digest.update(name.encode(errors="surrogatepass") + b"\0")
        return torch.tensor(list(digest.digest()), dtype=torch.uint8)

    def state_dict(self) -> dict[str, Tensor]:
        """Two (N,) int32 tensors, `labelled_in_round` and `labels`; where samples have names, the names' digest."""
        state = {"labelled_in_round": self.labelled_in_round.clone(), "labels": self.labels.clone()}
        return state | ({"sample_ids_digest": self._names_digest} if self._has_names else {})

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what `state_dict` gave; all of it or, if anything is wrong, nothing.

        Raises:
            ValueError: it is of another pool size, of other sample ids, or not what `state_dict` gives.
        """
        for name in ("labelled_in_round", "labels"):
            value = state.get(name)
            if not isinstance(value, Tensor) or value.dtype != torch.int32:
                got = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"{name} must be int32 of shape ({self.num_samples},); got {got}")
            if value.shape != (self.num_samples,):
                raise ValueError(
                    f"this pool has {self.num_samples} samples, but the saved {name} has shape "
                    f"{tuple(value.shape)}; it was saved for another data set"
                )
        digest = state.get("sample_ids_digest")
        if digest is not None and self._has_names and not torch.equal(digest.cpu(), self._names_digest):
            raise ValueError(
                f"the saved labels are of {self.num_samples} samples with other names than this pool's, or in another "
                f"order; images were added, taken away or renamed since: restore them, or begin a new run"
            )
        since, labels = state["labelled_in_round"], state["labels"]
        is_labelled = since >= 0
        wrong = (since < EXCLUDED) | ~torch.where(
            is_labelled, (labels >= 0) & (labels < self.num_classes), labels == -1
        )
        if wrong.any():
            sample = int(wrong.nonzero()[0, 0])
            raise ValueError(
                f"sample {sample} is saved as labelled in round {int(since[sample])} with the label "
                f"{int(labels[sample])}; labels are 0 … {self.num_classes - 1}, and -1 of what is not labelled"
            )
        self.labelled_in_round = since.clone()
        self.labels = labels.clone()
