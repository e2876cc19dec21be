"""Analysis of several runs: grouping, statistics of their differences, and the labels by people."""
