"""Rows of images and logits after them of tiny Qwen 3.5 checkpoints in transformers.

    python -m tests.convert.qwen_images_torch

Writes `qwen_images_torch.npz`. Needs torch and transformers, which the tests do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localmtp.bench.lab.convert.checkpoints import write_safetensors
from localmtp.bench.lab.convert.qwen_checkpoints import VISION_SHAPES, qwen_tensors, write_qwen

RECORDED = Path(__file__).with_name("qwen_images_torch.npz")
EVERY = 4
"""Rows that are recorded: every fourth."""

LAST = 8
"""Positions whose logits are recorded."""

SIZES = ((320, 224), (256, 256), (224, 416))
"""Width and height of the images in pixels: multiples of a token's side, so that they are not
resized."""

_SIDE, _PATCH = 32, 16
"""Pixels of a token's side and of a patch's."""


_ROTATED, _SHARPENED = 16, 5.0
"""Rotated dimensions of a query, and what is added to their norm's weights: attention depends on
positions more than with random weights. Not with experts: rounding would choose among them."""


def write_checkpoint(directory: Path, shape: str) -> Path:
    """Writes a checkpoint; `shape` is one of `VISION_SHAPES`."""
    write_qwen(directory, shape)
    if shape != "9B":
        return directory
    tensors = qwen_tensors(shape)
    for name, weights in tensors.items():
        if name.endswith("self_attn.q_norm.weight"):
            weights[:_ROTATED] += _SHARPENED
    write_safetensors(directory / "model.safetensors", tensors, "BF16")
    return directory


def picture(number: int) -> NDArray[np.uint8]:
    """An image of coloured noise, as rows of pixels."""
    width, height = SIZES[number]
    random = np.random.default_rng(number)
    coarse = random.integers(0, 256, (height // 16, width // 16, 3))
    return coarse.repeat(16, 0).repeat(16, 1).astype(np.uint8)


def prompt(vision: tuple[int, int], images: Sequence[Sequence[int]]) -> list[int]:
    """Text and the given images in turn, text last.

    Args:
        vision: ids of the tokens that open and close an image.
        images: ids of the rows of each.
    """
    letters = np.random.default_rng(5).integers(10, 250, (len(images) + 1, LAST + 4)).tolist()
    ids = []
    for text, rows in zip(letters, images, strict=False):
        ids += [*text, vision[0], *rows, vision[1]]
    return [*ids, *letters[-1]]


def _patches(number: int) -> tuple[NDArray[np.float32], list[int]]:
    """Returns an image in patches [n, 3 x 2 x 16 x 16], and its grid in time, height and width."""
    pixels = picture(number).astype(np.float32).transpose(2, 0, 1) / 127.5 - 1
    height, width = (size // _SIDE for size in pixels.shape[1:])
    two_frames = np.stack([pixels, pixels], 1)  # [colour, time, y, x]
    split = two_frames.reshape(3, 2, height, 2, _PATCH, width, 2, _PATCH)
    ordered = split.transpose(2, 5, 3, 6, 0, 1, 4, 7)
    return ordered.reshape(4 * height * width, -1), [1, 2 * height, 2 * width]


def _reference(checkpoint: Path) -> dict[str, Any]:
    """Returns rows of the images, and the logits of the last eight positions."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

    names = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    start, end, image, video = AutoTokenizer.from_pretrained(checkpoint).convert_tokens_to_ids(
        names
    )
    config = AutoConfig.from_pretrained(checkpoint)
    config.image_token_id, config.video_token_id = image, video
    config.vision_start_token_id, config.vision_end_token_id = start, end
    for part in (config, config.text_config, config.vision_config):
        part._attn_implementation = "eager"
    model = AutoModelForImageTextToText.from_config(config).float().eval()
    stored = {k: v.float() for k, v in load_file(checkpoint / "model.safetensors").items()}
    print(model.load_state_dict(stored, strict=False))
    model.tie_weights()
    patches, grids = zip(*map(_patches, range(len(SIZES))), strict=True)
    rows = [grid[1] * grid[2] // 4 for grid in grids]
    ids = prompt((start, end), [[image] * count for count in rows])
    given = {"pixel_values": torch.tensor(np.concatenate(patches))}
    given["image_grid_thw"] = torch.tensor(grids)
    kinds = torch.tensor([[int(token == image) for token in ids]])
    with torch.no_grad():
        features = model.model.get_image_features(**given).pooler_output
        logits = model(torch.tensor([ids]), mm_token_type_ids=kinds, **given).logits
    return {
        "image": torch.cat(list(features))[::EVERY].numpy(),
        "logits": logits[0, -LAST:].numpy(),
    }


def main() -> None:
    """Writes the recording."""
    found: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        for shape in VISION_SHAPES:
            reference = _reference(write_checkpoint(Path(folder, shape), shape))
            for name, array in reference.items():
                found[f"{shape} {name}"] = array.astype(np.float32)
                print(shape, name, array.shape, abs(array).max())
    np.savez_compressed(RECORDED, **found)


if __name__ == "__main__":
    main()
