"""Qwen 3.5 and 3.6, dense and mixture of experts, with their MTP head."""

from localmtp.convert.architectures.qwen35.architecture import CLASSES, read

__all__ = ["CLASSES", "read"]
