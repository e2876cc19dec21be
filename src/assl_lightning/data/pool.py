"""The samples of a run: which have a label, since which round, and which one; and how answers change that."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from assl_lightning.base.arguments import whole_number

UNLABELLED = -1
EXCLUDED = -2
HELD_OUT = -3
NEVER = -1

_VECTORS = ("labelled_in_round", "labels", "asked_in_round")


def _none() -> Tensor:
    return torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True)
class Corrections:
    """Present answers for samples that were asked for in earlier rounds, whether they are new or not."""

    index: Tensor = field(default_factory=_none)  # (E,) int64, distinct
    label: Tensor = field(
        default_factory=_none
    )  # (E,) int64 in [0, C); −1 where it is unknown, −2 to exclude the sample


@dataclass(frozen=True)
class Answers:
    """Labels for all or some of the samples that were asked for."""

    index: Tensor  # (A,) int64, distinct, among those asked for
    label: Tensor  # (A,) int64 in [0, C)
    excluded: Tensor = field(
        default_factory=_none
    )  # (B,) int64, others among those asked for; never ask for them again
    earlier: Corrections = field(default_factory=Corrections)


class Pool:
    """The N samples of a run. A sample is its index, 0 ≤ index < N, which never changes.

    Args:
        num_samples: N.
        num_classes: C; labels lie in [0, C).
        sample_ids: N stable, distinct names for people. None: the index as text.

    Attributes:
        labelled_in_round: (N,) int32, −1 unlabelled, 0 initial, r + 1 queried after the training of round r, −2
            excluded, −3 held out. A held-out sample is tested if its label is known, and is never trained on.
        labels: (N,) int32, −1 where unknown.
        asked_in_round: (N,) int32, the last round for which the label was asked for, answered or not; −1 never.
    """

    def __init__(self, num_samples: int, num_classes: int, sample_ids: Sequence[str] | None = None) -> None:
        num_samples, num_classes = whole_number("num_samples", num_samples), whole_number("num_classes", num_classes)
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
        self._digests: dict[int, Tensor] = {}
        self.labelled_in_round = torch.full((num_samples,), UNLABELLED, dtype=torch.int32)
        self.labels = torch.full((num_samples,), -1, dtype=torch.int32)
        self.asked_in_round = torch.full((num_samples,), NEVER, dtype=torch.int32)

    @property
    def labelled(self) -> Tensor:
        """(L,) int64 indices with a label, ascending."""
        return (self.labelled_in_round >= 0).nonzero()[:, 0]

    @property
    def unlabelled(self) -> Tensor:
        """(M,) int64 indices without a label, ascending; without excluded and held-out samples."""
        return (self.labelled_in_round == UNLABELLED).nonzero()[:, 0]

    @property
    def held_out(self) -> Tensor:
        """(H,) int64 indices to test on, ascending: held out, and with a label."""
        return ((self.labelled_in_round == HELD_OUT) & (self.labels >= 0)).nonzero()[:, 0]

    @property
    def excluded(self) -> Tensor:
        """(E,) int64 indices that left the run, ascending."""
        return (self.labelled_in_round == EXCLUDED).nonzero()[:, 0]

    def label(self, index: Tensor, label: Tensor, round_number: int) -> None:
        """Label samples; all of them or, if an argument is wrong, none.

        Args:
            index: (K,) int64, distinct and unlabelled so far.
            label: (K,) int64 in [0, C).
            round_number: the first round that trains on the labels, ≥ 0 (0: the initial labels).
        """
        self.check_unlabelled(index)
        self._check_labels(index, label, least=0)
        _check_round(round_number)
        self.labelled_in_round[index] = round_number
        self.labels[index] = label.to(torch.int32)

    def exclude(self, index: Tensor) -> None:
        """Take unlabelled samples out of the run: (K,) int64. They keep their indices, and are never asked for."""
        self.check_unlabelled(index)
        self.labelled_in_round[index] = EXCLUDED

    def apply(
        self,
        answers: Answers,
        requested: Tensor,
        round_number: int,
        *,
        held_out: Tensor | None = None,
        gone: Tensor | None = None,
    ) -> None:
        """Change the samples by the answers to a request; all of them or, if an argument is wrong, none.

        First each requested sample takes its answer, whatever it was before, and becomes unlabelled without one. Then
        the corrections of earlier answers follow, then the exclusion of the samples that are gone. A sample keeps the
        round of its first label as long as it has one. A held-out sample stays held out: where it is unknown or to be
        excluded, it loses its label, and it is never trained on.

        Args:
            answers: the answers to the request, and corrections of earlier ones.
            requested: (K,) int64, distinct, the samples of the request.
            round_number: the round that waited for the answers, ≥ 0: the first that trains on the new labels.
            held_out: (H,) int64, those of `requested` to hold out for the test.
            gone: (G,) int64, distinct, the samples to exclude, labelled or not, because their images are gone.
        """
        held_out, gone = (requested[:0] if index is None else index for index in (held_out, gone))
        self._check_answers(answers, requested)
        for index in (held_out, gone, answers.earlier.index):
            self.check_indices(index)
        self._check_labels(answers.earlier.index, answers.earlier.label, least=EXCLUDED)
        _check_round(round_number)
        if not torch.isin(held_out, requested).all():
            raise ValueError("held_out must be among the requested samples; got others")

        label = torch.full((self.num_samples,), UNLABELLED)
        label[answers.index] = answers.label
        label[answers.excluded] = EXCLUDED
        self.labelled_in_round[held_out] = HELD_OUT
        self._set(requested, label[requested], round_number)
        self.asked_in_round[requested] = round_number
        self._set(answers.earlier.index, answers.earlier.label, round_number)
        self._set(gone, torch.full_like(gone, EXCLUDED), round_number)

    def _set(self, index: Tensor, label: Tensor, round_number: int) -> None:
        """Give samples a label in [0, C), −1 for none or −2 to exclude them; new labels belong to the round."""
        since = self.labelled_in_round[index]
        after = torch.where(since < 0, round_number, since)
        after = torch.where(label < 0, label, after)  # −1 and −2 mean the same in both vectors
        self.labelled_in_round[index] = torch.where(since == HELD_OUT, HELD_OUT, after).to(torch.int32)
        self.labels[index] = label.clamp(min=-1).to(torch.int32)

    def _check_answers(self, answers: Answers, requested: Tensor) -> None:
        answered = torch.cat([answers.index, answers.excluded])
        for index in (requested, answered):
            self.check_indices(index)
        self._check_labels(answers.index, answers.label, least=0)
        strange = answered[~torch.isin(answered, requested)]
        if len(strange):
            raise ValueError(
                f"the oracle answered for sample {int(strange.min())}, which was not asked for; "
                f"answer only the {len(requested)} samples of the request"
            )

    def check_unlabelled(self, index: Tensor) -> None:
        """Raise unless `index` is (K,) int64, distinct and of `unlabelled` samples."""
        self.check_indices(index)
        taken = index[self.labelled_in_round[index] != UNLABELLED]
        if len(taken):
            sample = int(taken[0])
            since = int(self.labelled_in_round[sample])
            state = {EXCLUDED: "excluded", HELD_OUT: "held out for the test"}.get(
                since, f"labelled since round {since}"
            )
            raise ValueError(f"sample {sample} ({self.sample_ids[sample]}) is {state}; it cannot be labelled again")

    def check_indices(self, index: Tensor) -> None:
        """Raise unless `index` is (K,) int64, distinct and of this pool."""
        if index.dtype != torch.int64 or index.ndim != 1:
            raise ValueError(f"index must be int64 of shape (K,); got {index.dtype} of shape {tuple(index.shape)}")
        outside = index[(index < 0) | (index >= self.num_samples)]
        if len(outside):
            raise IndexError(f"sample {int(outside[0])} lies outside the pool's 0 … {self.num_samples - 1}")
        distinct, counts = index.unique(return_counts=True)
        if len(distinct) != len(index):
            raise ValueError(f"sample {int(distinct[counts > 1][0])} was named twice in one request; name each once")

    def _check_labels(self, index: Tensor, label: Tensor, least: int) -> None:
        if label.shape != index.shape:
            raise ValueError(f"{len(index)} samples need {len(index)} labels; got shape {tuple(label.shape)}")
        wrong = ((label < least) | (label >= self.num_classes)).nonzero()[:, 0]
        if len(wrong):
            raise ValueError(
                f"sample {int(index[wrong[0]])} was given the label {int(label[wrong[0]])}; labels are "
                f"0 … {self.num_classes - 1}"
            )

    def _names_digest(self, count: int) -> Tensor:
        """Return the digest, (16,) uint8, of the first `count` sample ids in their order."""
        if count not in self._digests:
            digest = hashlib.blake2b(digest_size=16)
            for name in self.sample_ids[:count]:
                digest.update(name.encode(errors="surrogatepass") + b"\0")
            self._digests[count] = torch.tensor(list(digest.digest()), dtype=torch.uint8)
        return self._digests[count]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the three attributes, (N,) int32, and the digest of the names if the samples have names."""
        state = {name: getattr(self, name).clone() for name in _VECTORS}
        return state | ({"sample_ids_digest": self._names_digest(self.num_samples)} if self._has_names else {})

    def load_state_dict(self, state: dict[str, Tensor], *, joining: int | None = None) -> None:
        """Restore a state of `state_dict`; all of it or, if anything is wrong, nothing.

        Args:
            state: of this pool; older ones have no `asked_in_round`.
            joining: None, or the round in which samples join that the state does not have yet: it may be of fewer
                samples, the first of this pool. The others keep the labels that they have here, as of that round.

        Raises:
            ValueError: the state is of another pool size or of other sample ids, or is none of `state_dict`.
        """
        count = self.num_samples
        labels = state.get("labels")
        if isinstance(labels, Tensor) and "asked_in_round" not in state:
            state = {**state, "asked_in_round": torch.full_like(labels, NEVER)}
        for name in _VECTORS:
            value = state.get(name)
            if not isinstance(value, Tensor) or value.dtype != torch.int32:
                got = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"{name} must be int32 of shape ({self.num_samples},); got {got}")
            if value.shape != (count,):
                if name == _VECTORS[0] and joining is not None and value.ndim == 1 and len(value) < count:
                    count = len(value)
                    continue
                raise ValueError(
                    f"this pool has {count} samples, but the saved {name} has shape {tuple(value.shape)}; it was "
                    f"saved for another data set"
                )
        digest = state.get("sample_ids_digest")
        if digest is not None and self._has_names and not torch.equal(digest.cpu(), self._names_digest(count)):
            raise ValueError(
                f"the saved labels are of {count} samples with other names than this pool's, or in another order; "
                f"images were added, taken away or renamed since: restore them, or begin a new run"
            )
        self._check_state(state)
        for name in _VECTORS:
            setattr(self, name, torch.cat([state[name], getattr(self, name)[count:]]))
        joined = self.labelled_in_round[count:]
        joined[joined >= 0] = joining or 0

    def _check_state(self, state: dict[str, Tensor]) -> None:
        since, labels = state["labelled_in_round"], state["labels"]
        is_known = (labels >= 0) & (labels < self.num_classes)
        fits = torch.where(
            since >= 0, is_known, torch.where(since == HELD_OUT, is_known | (labels == -1), labels == -1)
        )
        wrong = (since < HELD_OUT) | ~fits | (state["asked_in_round"] < NEVER)
        if wrong.any():
            sample = int(wrong.nonzero()[0, 0])
            raise ValueError(
                f"sample {sample} is saved as labelled in round {int(since[sample])} with the label "
                f"{int(labels[sample])}; labels are 0 … {self.num_classes - 1}, and -1 of what is not labelled"
            )


def unused(state: Mapping[str, Tensor]) -> Tensor:
    """Return the indices (U,) int64, in a pool's `state_dict`, whose images no training, query or test needs."""
    since, labels = state["labelled_in_round"], state["labels"]
    return ((since == EXCLUDED) | ((since == HELD_OUT) & (labels < 0))).nonzero()[:, 0]


def _check_round(round_number: int) -> None:
    if round_number < 0:
        raise ValueError(f"samples are labelled for a round ≥ 0; got {round_number}")
