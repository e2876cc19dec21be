"""Temporal instability: how a network's mind changes about unlabelled samples while it trains.

The measures are functions of NumPy arrays; `python -m assl_lightning.report.instability RUN_DIR` applies them to the
snapshots of a run. Neither needs torch.
"""
