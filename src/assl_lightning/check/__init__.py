"""A dry run: problems of the data and the run's directory, and estimates of time and disk, before a run begins."""
