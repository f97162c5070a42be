"""What can be run, and where its files are."""

from localmtp.models.files import ModelFiles
from localmtp.models.resolution import resolve

__all__ = ["ModelFiles", "resolve"]
