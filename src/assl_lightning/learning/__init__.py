"""One training: the learning algorithms, their batches, and the callbacks of a fit."""
