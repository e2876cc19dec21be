"""Where images come from: one file per data set, each a function that returns a `PoolSource`."""
