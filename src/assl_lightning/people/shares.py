"""A batch split among several people: the images that each of them labels, and those that all of them label."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from assl_lightning.people.batch import AskedSample, LabelBatch

_TEXT = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")


@dataclass(frozen=True)
class Share:
    """The part of one person among several.

    The parts of all of them are disjoint, but for the images in common, and together are the batch. Which images they
    have follows from the run, the round and the names of the images alone: the same on every machine, whenever the page
    is started, as long as `people` and `common` are the same for all.

    Raises:
        ValueError: a value is out of its range.
    """

    person: int  # from 1 to `people`
    people: int  # ≥ 1
    common: float = 0.0  # in [0, 1]: the share of a batch that all of them label, by which their agreement is known

    def __post_init__(self) -> None:
        if not 1 <= self.person <= self.people:
            raise ValueError(f"a share must be like 2/3, the second of three people's; got {self.person}/{self.people}")
        if not 0 <= self.common <= 1:
            raise ValueError(f"the common share must be in [0, 1]; got {self.common}")

    def __str__(self) -> str:
        """Describe it, as in "share 2 of 3"."""
        return f"share {self.person} of {self.people}"

    def split(self, batch: LabelBatch) -> tuple[list[AskedSample], list[AskedSample]]:
        """Return the images of this person alone, and those that all label.

        Raises:
            ValueError: there are none.
        """
        seed = f"{batch.run_id}\0{batch.round}\0share\0"
        drawn = sorted(batch.samples, key=lambda sample: hashlib.sha256((seed + sample.sample_id).encode()).digest())
        count = round(self.common * len(drawn))
        own, common = drawn[count:][self.person - 1 :: self.people], drawn[:count]
        if not own and not common:
            raise ValueError(f"{self} has no images, since the batch has {len(drawn)}; split it among fewer people")
        return own, common


def read_share(text: str) -> tuple[int, int]:
    """Read "2/3" as the second of three people.

    Raises:
        ValueError: it is none.

    >>> read_share("2/3")
    (2, 3)
    """
    found = _TEXT.fullmatch(text)
    share = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= share[0] <= share[1]:
        raise ValueError(
            f"a share is written 1/3, 2/3 or 3/3, for the first, second or third of three people; got {text!r}"
        )
    return share
