"""What holds for the tests and for the doctests of `src` alike."""

from tests.isolation import _isolated, _nowhere, pytest_collection_finish, pytest_configure

__all__ = ["_isolated", "_nowhere", "pytest_collection_finish", "pytest_configure"]
