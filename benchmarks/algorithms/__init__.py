"""How well the learning algorithms do at few labels: the runs of results/algorithms/PROTOCOL.md, and their tables."""
