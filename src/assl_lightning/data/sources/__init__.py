"""Sources of images: one file per data set, each with a function that returns a `PoolSource`."""
