"""Learning algorithms as LightningModules; each returns a `StepOutput` from its training step."""
