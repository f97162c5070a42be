"""Model names: the registry, references to the hub, quantization labels, pairing."""
