"""The OpenAI API on the wire: request bodies in, response JSON out."""
