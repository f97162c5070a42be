"""Conversion of Hugging Face checkpoints of Gemma 4 and its drafters to quantized GGUF."""

from localmtp.convert.conversion import ConvertedFile, ConvertProgress, Options, convert
from localmtp.convert.output.quantize import FILE_TYPES

__all__ = ["FILE_TYPES", "ConvertProgress", "ConvertedFile", "Options", "convert"]
