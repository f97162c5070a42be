"""From logits to tokens, and the acceptance rule of speculative sampling."""
