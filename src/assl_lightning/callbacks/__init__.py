"""Lightning callbacks: the score table, weight averaging, progress, checkpoints."""
