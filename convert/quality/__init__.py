"""The report of a conversion: what quantization costs in quality and in acceptance."""
