"""Models: their names, their files on disk and on the hub, the memory that they need."""

from localmtp.models.files import ModelFiles
from localmtp.models.resolution import resolve

__all__ = ["ModelFiles", "resolve"]
