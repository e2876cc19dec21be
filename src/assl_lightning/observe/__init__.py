"""Makers of the argument `observe` of `ASSLScoreCallback`: where a training makes the predictions that are scored.

| maker | the training |
|---|---|
| `keys` | returns index and logits from `training_step`; the default |
| `forward` | calls a network once for each view, in whatever module |
| `split` | calls a network once, on labelled, weak and strong rows together |
| `teacher_student` | has two networks that see a view each |
| `second_view` | has one view of each sample: a pass of another view is made beside it |
| `dense` | around another maker: predicts for each pixel or token |
| `regions` | around another maker: the same, for regions of images instead of whole ones |
| `detections` | has a detector, which gives boxes |
| `binary` | around another maker: has one logit for each sample |

All are classes, so that Hydra's `_target_: assl_lightning.observe.forward` and LightningCLI's `class_path:
assl_lightning.observe.forward` make them too. `side_pass` is for forward passes in an `observe` function of one's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assl_lightning.base.faces import make_face

if TYPE_CHECKING:
    from assl_lightning.method.beside_training import side_pass as side_pass
    from assl_lightning.observe.dense_predictions import dense as dense
    from assl_lightning.observe.detected_objects import detections as detections
    from assl_lightning.observe.forward_calls import forward as forward
    from assl_lightning.observe.joint_forward import split as split
    from assl_lightning.observe.one_logit import binary as binary
    from assl_lightning.observe.other_view import mirror as mirror
    from assl_lightning.observe.other_view import second_view as second_view
    from assl_lightning.observe.parts_of_images import regions as regions
    from assl_lightning.observe.step_output import keys as keys
    from assl_lightning.observe.two_networks import teacher_student as teacher_student

__all__ = [
    "binary",
    "dense",
    "detections",
    "forward",
    "keys",
    "mirror",
    "regions",
    "second_view",
    "side_pass",
    "split",
    "teacher_student",
]

__getattr__, __dir__ = make_face(
    __name__,
    {
        "method.beside_training": ["side_pass"],
        "observe.dense_predictions": ["dense"],
        "observe.detected_objects": ["detections"],
        "observe.forward_calls": ["forward"],
        "observe.joint_forward": ["split"],
        "observe.one_logit": ["binary"],
        "observe.other_view": ["mirror", "second_view"],
        "observe.parts_of_images": ["regions"],
        "observe.step_output": ["keys"],
        "observe.two_networks": ["teacher_student"],
    },
)
