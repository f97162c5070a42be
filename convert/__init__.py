"""Conversion of Hugging Face checkpoints of Gemma 4 and Qwen 3.5 to quantized GGUF."""

from localmtp.convert.conversion import Options, convert
from localmtp.convert.output.quantize import FILE_TYPES
from localmtp.convert.run import ConvertedFile, ConvertProgress

__all__ = ["FILE_TYPES", "ConvertProgress", "ConvertedFile", "Options", "convert"]
