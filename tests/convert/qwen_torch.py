"""Logits of tiny Qwen 3.5 checkpoints and their MTP heads in torch, for tests to compare with.

`python -m tests.convert.qwen_torch`, in a Python with torch and transformers, writes
qwen_torch.npz from the checkpoints of `localmtp.bench.lab.convert.qwen_checkpoints`: the logits of
target and head for every shape, in half precision.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from localmtp.bench.lab.convert.qwen_checkpoints import write_qwen

RECORDED = Path(__file__).with_name("qwen_torch.npz")
SHAPES = ("0.8B", "9B", "35B-A3B")
TOKENS = 24


def tokens() -> list[int]:
    """The prompt: ids of letters."""
    drawn = np.random.default_rng(3).integers(10, 250, TOKENS)
    return [int(token) for token in drawn]


def _logits(checkpoint: Path) -> tuple[Any, Any]:
    """Logits of the target, and of the head after each token with the hidden state before it."""
    import torch
    import transformers
    from safetensors.torch import load_file

    raw = {name: t.float() for name, t in load_file(checkpoint / "model.safetensors").items()}
    config = transformers.AutoConfig.from_pretrained(checkpoint).text_config
    config._attn_implementation = "eager"
    name = "Qwen3_5MoeForCausalLM" if "moe" in config.model_type else "Qwen3_5ForCausalLM"
    kind = getattr(transformers, name)
    model = kind(config).float().eval()
    inner = {n.replace("language_model.", ""): t for n, t in raw.items() if "visual" not in n}
    inner.setdefault("lm_head.weight", inner["model.embed_tokens.weight"])
    model.load_state_dict({n: t for n, t in inner.items() if not n.startswith("mtp.")})
    one = type(config).from_dict(
        {**config.to_dict(), "num_hidden_layers": 1, "layer_types": ["full_attention"]}
    )
    one._attn_implementation = "eager"
    head = kind(one).float().eval()
    parts = {n.replace("mtp.", "model."): t for n, t in inner.items() if n.startswith("mtp.")}
    names = ("fc", "pre_fc_norm_embedding", "pre_fc_norm_hidden")
    fc, for_embedding, for_hidden = (parts.pop(f"model.{n}.weight") for n in names)
    assert not head.load_state_dict(parts, strict=False).unexpected_keys

    def norm(values: Any, weight: Any) -> Any:
        scale = torch.rsqrt(values.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps)
        return values * scale * (1 + weight)

    ids = torch.tensor([tokens()])
    with torch.no_grad():
        hidden = model.model(ids).last_hidden_state
        before = torch.cat([torch.zeros_like(hidden[:, :1]), hidden[:, :-1]], 1)
        embedded = model.get_input_embeddings()(ids)
        mixed = torch.cat([norm(embedded, for_embedding), norm(before, for_hidden)], -1) @ fc.T
        positions = torch.arange(TOKENS)[None]
        drafted = head.model(inputs_embeds=mixed, position_ids=positions).last_hidden_state
        return model.lm_head(hidden)[0].numpy(), model.lm_head(drafted)[0].numpy()


def main() -> None:
    """Write the recording."""
    found: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        for shape in SHAPES:
            target, head = _logits(write_qwen(Path(folder, shape), shape))
            found[f"{shape} target"] = target.astype(np.float16)
            found[f"{shape} head"] = head.astype(np.float16)
            print(shape, abs(target).max(), abs(head).max())
    np.savez_compressed(RECORDED, **found)


if __name__ == "__main__":
    main()
