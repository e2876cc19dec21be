"""Who is labelled (`pool`), which samples make a batch (`samplers`), and where images come from (`sources`)."""
