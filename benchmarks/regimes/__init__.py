"""Data and experiments on which rules are compared at few labels. See README.md beside this file."""
