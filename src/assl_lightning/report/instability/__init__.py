"""Temporal instability: how often predictions of unlabelled samples change during training.

The measures are functions of NumPy arrays; `python -m assl_lightning.report.instability RUN_DIR` applies them to the
snapshots of a run. Neither needs torch.
"""
