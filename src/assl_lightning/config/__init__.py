"""From YAML and overrides to a validated configuration, and from there to objects."""
