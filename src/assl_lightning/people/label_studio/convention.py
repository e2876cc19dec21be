"""Names that mark a task, an annotation or a project of Label Studio as this package's."""

CONTROL = "label"
"""Name of the `Choices` control in which people choose the class."""

BAD_IMAGE = "assl:bad"
"""Alias of the choice "bad image", so that a class may have that name, too."""

MODEL_VERSION = "assl_lightning"
"""Model version of all predictions: Label Studio shows those of the first version that a project received."""

SERVERS_FILES = "/data/local-files/?d="
"""Address below which a Label Studio serves the files of its document root."""


def marker(run_id: str) -> str:
    """Return the text in the description of a run's project by which the project is found again."""
    return f"assl_lightning run {run_id}"
