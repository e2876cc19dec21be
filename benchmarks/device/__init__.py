"""The parts of `python -m benchmarks.device_check`, each run in a process of its own."""
