"""Qwen 3.5 and 3.6, dense and mixture of experts, with their MTP head."""
