"""Temporal instability: how a network's mind changes about unlabelled samples while it trains.

The measures are functions of NumPy arrays; `python -m assl_lightning.analysis.instability RUN_DIR` applies them to the
snapshots of a run. Neither needs torch.
"""

from assl_lightning.analysis.instability.measures import UncertaintyByInstability as UncertaintyByInstability
from assl_lightning.analysis.instability.measures import confident_uncertainty as confident_uncertainty
from assl_lightning.analysis.instability.measures import pseudo_labelled_share as pseudo_labelled_share
from assl_lightning.analysis.instability.measures import rank_correlations as rank_correlations
from assl_lightning.analysis.instability.measures import total_instability as total_instability
from assl_lightning.analysis.instability.measures import uncertainty_by_instability as uncertainty_by_instability
