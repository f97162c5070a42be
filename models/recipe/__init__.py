"""How the nano pair was made: data, tokenizer, training. Needs the `train` extra."""
