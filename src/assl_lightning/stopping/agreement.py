"""Agreement of two classifiers on the same images, and the change of accuracy that it bounds.

Cohen 1960; its standard error: Fleiss, Cohen and Everitt 1969; the bound: Bloodgood and Grothendieck, CoNLL 2013.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from math import sqrt
from typing import TYPE_CHECKING

from assl_lightning.base.proportions import wilson_interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Z = 1.959963984540054
"""The normal quantile of a two-sided 95 % interval."""


@dataclass(frozen=True)
class Agreement:
    """The agreement of two classifiers on images that both predicted.

    The intervals say what other images of the same kind would give, for these two classifiers. They do not say what two
    other trainings would give.

    >>> count([0, 0, 1, 1], [0, 0, 1, 0]).kappa
    0.5
    """

    images: int  # predicted by both, at least 1
    agreeing: int  # of them, with the same prediction
    kappa: float  # Cohen's κ in [−1, 1]; 1 = all agree, 0 = as many as by chance
    kappa_error: float  # its standard error for many images, ≥ 0
    least_class_kappa: float  # the smallest κ of the questions "this class or another one", over all classes

    @property
    def changed(self) -> float:
        """The share of the images whose predictions differ, in [0, 1].

        The accuracy on these images cannot differ by more, since one prediction that changes makes one image right or
        wrong.
        """
        return 1 - self.agreeing / self.images

    @property
    def changed_interval(self) -> tuple[float, float]:
        """The 95 % interval of this share (Wilson 1927)."""
        return wilson_interval(self.images - self.agreeing, self.images)

    @property
    def kappa_interval(self) -> tuple[float, float]:
        """The 95 % interval of κ, cut to [−1, 1]."""
        return max(-1.0, self.kappa - Z * self.kappa_error), min(1.0, self.kappa + Z * self.kappa_error)

    @property
    def most_f_change(self) -> float | None:
        """The bound on the difference of the F-measure of any class on these images; None where it says nothing."""
        return f_change_bound(self.least_class_kappa)

    def as_dict(self) -> dict[str, float]:
        """Return the fields, for a record."""
        return asdict(self)

    @classmethod
    def of(cls, fields: Mapping[str, float]) -> Agreement | None:
        """Return the agreement of a record; None of an empty one.

        Raises:
            ValueError: the fields are others.
        """
        if not fields:
            return None
        names = [entry.name for entry in dataclass_fields(cls)]
        if fields.keys() != set(names) or fields["images"] < 1:
            raise ValueError(
                f"an agreement must have images (1 or more) and {', '.join(names[1:])}; got {dict(fields)}"
            )
        images, agreeing, *others = (fields[name] for name in names)
        return cls(int(images), int(agreeing), *others)


def count(first: NDArray[np.int64] | list[int], second: NDArray[np.int64] | list[int]) -> Agreement:
    """Compare two predictions (n,) of the same n ≥ 1 images, classes from 0 on."""
    import numpy as np  # here, so that commands that only read records do not wait for it

    one, other = np.asarray(first, np.int64), np.asarray(second, np.int64)
    if one.shape != other.shape or one.ndim != 1 or not len(one):
        raise ValueError(f"two predictions of the same images are needed; got shapes {one.shape} and {other.shape}")
    classes, codes = np.unique(np.concatenate([one, other]), return_inverse=True)
    size = len(classes)
    pairs = np.bincount(codes[: len(one)] * size + codes[len(one) :], minlength=size * size)
    return of_table(pairs.reshape(size, size))


def of_table(table: NDArray[np.int64]) -> Agreement:
    """Return the agreement of a table (C, C): images by the class of the first and of the second classifier."""
    import numpy as np

    images = int(table.sum())
    share = table / images
    rows, columns = share.sum(1), share.sum(0)
    observed, by_chance = float(np.trace(share)), float(rows @ columns)
    agreeing = int(np.trace(table))
    if by_chance >= 1:  # both give one class to all images
        return Agreement(images, agreeing, 1.0, 0.0, 1.0)
    kappa = (observed - by_chance) / (1 - by_chance)
    # p_ii (1 − (p_i. + p_.i)(1 − κ))² + (1 − κ)² p_ij (p_.i + p_j.)² for i ≠ j
    on_diagonal = np.diag(share) * (1 - (rows + columns) * (1 - kappa)) ** 2
    crossed = share * (columns[:, None] + rows[None, :]) ** 2
    off_diagonal = (1 - kappa) ** 2 * (crossed.sum() - np.trace(crossed))
    variance = on_diagonal.sum() + off_diagonal - (kappa - by_chance * (1 - kappa)) ** 2
    error = sqrt(max(float(variance), 0.0) / images) / (1 - by_chance)
    of_class = 2 * (np.diag(share) - rows * columns) / (rows + columns - 2 * rows * columns)  # κ of two by two
    return Agreement(images, agreeing, float(kappa), error, float(of_class.min()))


def f_change_bound(kappa: float) -> float | None:
    """Return 4(1 − κ)/κ, by which the F-measures of two binary classifiers of this κ differ at most; None if ≥ 1.

    With more than two classes it holds for one class against the others, with the κ of that question. Bloodgood and
    Grothendieck, CoNLL 2013.

    >>> round(f_change_bound(0.99), 4), f_change_bound(0.5)
    (0.0404, None)
    """
    bound = 4 * (1 - kappa) / kappa if kappa > 0 else 1.0
    return bound if bound < 1 else None
