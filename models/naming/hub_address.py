"""Names pasted from the Hugging Face hub: addresses of pages and files, `hf.co/USER/REPO`."""

from __future__ import annotations

import re

_ADDRESS = re.compile(
    r"(?:https?://)?(?:www\.)?(?:hf\.co|huggingface\.co)/"
    r"(?P<repo>[\w.-]+/[\w.-]+?)"
    r"(?::(?P<label>[\w.-]+))?"
    r"(?:/(?:blob|resolve|raw|tree)/[^/?#]+(?:/(?P<file>[^?#]*))?)?/?(?:[?#].*)?",
    re.IGNORECASE,
)

_QUANT = re.compile(r"(?:^|[-._])(I?Q\d\w*|BF16|F16|F32|MXFP4)(?=[-.]|$)", re.IGNORECASE)


def hub_name(model: str) -> str:
    """Returns `USER/REPO[:QUANT]` for an address on the hub; any other name unchanged.

    The quantization type is taken from the address of a file.
    """
    match = _ADDRESS.fullmatch(model)
    if match is None:
        return model
    label = match["label"]
    if label is None and (quants := _QUANT.findall((match["file"] or "").rpartition("/")[2])):
        label = quants[-1].upper()
    return f"{match['repo']}:{label}" if label else match["repo"]
