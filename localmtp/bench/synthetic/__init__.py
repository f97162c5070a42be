"""Speed before downloading: random weights of a model's true shape, published acceptance."""
