"""Training of the nano pair: data, tokenizer, target, drafter. Needs the `train` extra.

Part of a checkout and of the source distribution, not of the wheel.
"""
