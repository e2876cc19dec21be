"""The names by which a task, an annotation and a project of Label Studio are known as ours."""

CONTROL = "label"
"""The `Choices` in which people choose the class."""

BAD_IMAGE = "assl:bad"
"""What an annotation holds where somebody chose "bad image": an alias, so that a class may be called that as well."""

MODEL_VERSION = "assl_lightning"
"""Of all predictions: Label Studio shows those of one version, the first that was ever sent to a project."""

SERVERS_FILES = "/data/local-files/?d="
"""Where a Label Studio serves the files below its document root."""


def marker(run_id: str) -> str:
    """What the description of a run's project holds."""
    return f"assl_lightning run {run_id}"
