"""Batched augmentation: every sample of a batch gets its own draw, on the device where the images are.

`WeakAugment` and `StrongAugment` are FixMatch's two views (Sohn et al. 2020, §2.3), uint8 in and uint8
out; `Normalise` turns either into the input of a network. `plans` chooses how they are computed, exact to PIL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assl_lightning.base.faces import make_face

if TYPE_CHECKING:
    from assl_lightning.augment.normalise import Normalise as Normalise
    from assl_lightning.augment.ops import FIXMATCH_OPS as FIXMATCH_OPS
    from assl_lightning.augment.strong import StrongAugment as StrongAugment
    from assl_lightning.augment.weak import WeakAugment as WeakAugment

__getattr__, __dir__ = make_face(
    __name__,
    {
        "augment.normalise": ["Normalise"],
        "augment.ops": ["FIXMATCH_OPS"],
        "augment.strong": ["StrongAugment"],
        "augment.weak": ["WeakAugment"],
    },
)
