"""Writes `media_reference.npz`: rows and logits of the tiny checkpoints in transformers.

    python -m tests.convert.media_reference

Needs torch and transformers, which the tests do not.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tests.convert import runnable

OUT = Path(__file__).with_name("media_reference.npz")
EVERY = 8
"""Rows that are recorded: every eighth."""

LAST = 8
"""Positions whose logits are recorded."""


def main() -> None:
    """Runs every shape."""
    recorded: dict[str, Any] = {}
    for shape in ("E2B", "26B-A4B", "12B"):
        with TemporaryDirectory() as folder:
            directory = runnable.write_runnable(Path(folder, shape), shape)
            for name, array in reference(directory, shape).items():
                recorded[f"{shape} {name}"] = array.astype(np.float32)
    np.savez_compressed(OUT, **recorded)


def reference(directory: Path, shape: str) -> dict[str, Any]:
    """Returns rows of the image and the sound, and the logits of the last eight positions."""
    import torch

    model = _loaded(directory, shape)
    patch = 12 if shape == "12B" else 4
    patches, positions = _patches(patch)
    ids = runnable.prompt(
        [runnable.IMAGE_TOKEN] * 256, [] if shape == "26B-A4B" else [runnable.AUDIO_TOKEN] * 38
    )
    kinds = [1 if i == runnable.IMAGE_TOKEN else 3 if i == runnable.AUDIO_TOKEN else 0 for i in ids]
    given: dict[str, Any] = {
        "input_ids": torch.tensor([ids]),
        # As `generate` makes them: `forward` of the unified class makes others.
        "attention_mask": model.create_masks_for_generate(
            model.config,
            torch.empty(1, len(ids), 256),
            None,
            None,
            torch.arange(len(ids))[None],
            mm_token_type_ids=torch.tensor([kinds]),
        ),
        "pixel_values": torch.tensor(patches),
        "image_position_ids": torch.tensor(positions),
    }
    found: dict[str, Any] = {}
    with torch.no_grad():
        image = model.model.get_image_features(
            given["pixel_values"], given["image_position_ids"], return_dict=True
        ).pooler_output
        image = image[0] if isinstance(image, list | tuple) else image
        found["image"] = image.reshape(-1, 256)[::EVERY].numpy()
        if shape != "26B-A4B":
            features, mask = _features(shape)
            given |= {"input_features": features, "input_features_mask": mask}
            audio = model.model.get_audio_features(features, mask, return_dict=True).pooler_output
            found["audio"] = audio.reshape(-1, 256)[::EVERY].numpy()
        found["logits"] = model(**given).logits[0, -LAST:].numpy()
    return found


def _loaded(directory: Path, shape: str) -> Any:
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(directory)
    for part in (config, config.text_config, config.vision_config, config.audio_config):
        if part is not None:
            part._attn_implementation = "eager"
    model = AutoModelForImageTextToText.from_config(config).float().eval()
    stored = load_file(directory / "model.safetensors")
    weights = {_name(name, shape): tensor.float() for name, tensor in stored.items()}
    print(shape, model.load_state_dict(weights, strict=False))
    model.tie_weights()
    return model


def _name(name: str, shape: str) -> str:
    """Returns the name of a parameter in the class; the unified one is stored under others."""
    if name == "model.embed_vision.embedding_projection.weight" and shape == "12B":
        return name.replace("embedding_projection", "multimodal_embedder.embedding_projection")
    return name.replace("model.vision_embedder.", "model.embed_vision.")


def _patches(side: int) -> tuple[Any, Any]:
    """Returns the image in patches [1, n, 3 side²] and their places [1, n, 2] as x and y."""
    shown = runnable.pixels().astype(np.float32) / 255
    shown = (shown - np.array([0.5, 0.25, 0.5], np.float32)) / np.array(
        [0.5, 0.5, 0.25], np.float32
    )
    n = runnable.SIDE // side
    patches = shown.reshape(n, side, n, side, 3).transpose(0, 2, 1, 3, 4).reshape(1, n * n, -1)
    y, x = np.divmod(np.arange(n * n), n)
    return patches, np.stack([x, y], -1)[None]


def _features(shape: str) -> tuple[Any, Any]:
    import torch

    samples = runnable.sound().astype(np.float32) / 32768
    if shape == "12B":
        frames = np.pad(samples, (0, -len(samples) % 640)).reshape(1, -1, 640)
        return torch.tensor(frames), torch.ones(frames.shape[:2], dtype=torch.bool)
    from transformers.models.gemma4.feature_extraction_gemma4 import Gemma4AudioFeatureExtractor

    made = Gemma4AudioFeatureExtractor()([samples], sampling_rate=16_000, return_tensors="np")
    mask = torch.tensor(np.asarray(made["input_features_mask"]))
    return torch.tensor(np.asarray(made["input_features"])), mask


if __name__ == "__main__":
    main()
