"""`ASSLScoreCallback` for programs that check its class against `pytorch_lightning`, such as its LightningCLI.

`lightning.pytorch` and `pytorch_lightning` are two copies of one code, and each checks for callbacks of its own. In a
list of callbacks (`Trainer(callbacks=[…])`) the class of `assl_lightning` works in both from 2.6 on; a Trainer of an
older `pytorch_lightning` takes this one alone.
"""

from __future__ import annotations

import pytorch_lightning

from assl_lightning.method import callback


class ASSLScoreCallback(callback.ASSLScoreCallback, pytorch_lightning.Callback):  # type: ignore[misc]
    """The callback as `assl_lightning.ASSLScoreCallback` describes it, a callback of both namespaces.

    Checkpoints of the one are checkpoints of the other.
    """
