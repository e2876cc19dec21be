"""Speed, against floors that are measured in the same run: `python -m benchmarks`. See README.md beside this file."""
