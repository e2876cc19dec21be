"""Helpers that know nothing of this package: words, tables, files, seeds, signals, processes."""
