"""The program with a hub on loopback."""

from tests.models.conftest import hub, program

__all__ = ["hub", "program"]
