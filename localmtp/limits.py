"""Limits and default sizes that several packages share."""

from __future__ import annotations

MAX_DRAFT = 16
"""Longest draft that can be requested with `--n-draft`, in tokens."""

MAX_AUTO_DRAFT = 8
"""Longest automatic draft, in tokens, and the length of every draft of a full trace. The drafters
are trained for about this number of steps, and beyond it even predictable text gains less than a
miss costs."""

BATCH_ROWS = 512
"""Rows of the largest prefill batch: libllama's own default, where GPUs are near their peak."""

DEFAULT_CONTEXT = 8192
"""Context where none is requested, in tokens: enough for a long chat, small enough for any
laptop."""

MAX_THREADS = 512
"""Most compute threads: ggml's own limit, `GGML_MAX_N_THREADS`."""

MIN_CONTEXT = 16
"""Smallest context that can be requested, in tokens."""

IMAGE_TOKENS = 280
"""Most tokens of an image where none are requested, as in Gemma 4's own processor."""

MAX_IMAGE_TOKENS = 1120
"""Most tokens of an image that can be requested: the largest budget that Gemma 4 is trained for."""

MULTIAXIAL_IMAGE_TOKENS = 1024
"""The default for models with M-RoPE, Qwen's: an image of a megapixel. Below it they find places in
an image less well, as llama.cpp warns."""

MAX_MULTIAXIAL_IMAGE_TOKENS = 4096
"""The most that can be requested for those: llama.cpp's own limit. Qwen's is 16,384."""

MIN_IMAGE_TOKENS = 4
"""Fewest that can be requested: an image of 96 x 96 pixels."""


def most_image_tokens(requested: int | None, *, multiaxial: bool) -> int:
    """Returns the most tokens of an image.

    Args:
        requested: None for the default.
        multiaxial: whether the target's images have positions on several axes (M-RoPE).
    """
    return requested or (MULTIAXIAL_IMAGE_TOKENS if multiaxial else IMAGE_TOKENS)
