"""Rounds of training, querying and labelling, and the directory that they leave behind."""
