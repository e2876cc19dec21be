"""Acquisition functions: numbers about the unlabelled samples → the indices to label next. One file per idea."""
