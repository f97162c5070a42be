"""Gemma 4 targets and drafters."""

from localmtp.convert.architectures.gemma4.architecture import CLASSES, read

__all__ = ["CLASSES", "read"]
