"""Image networks under one contract: `features(images)`, `head(features)` and their composition, the logits."""
