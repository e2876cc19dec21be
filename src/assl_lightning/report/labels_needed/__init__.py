"""The report on fewer labels: rules in several regimes, against baselines, and the labels that each needs."""
