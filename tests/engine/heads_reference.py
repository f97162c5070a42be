"""Writes `heads_reference.npz`: logits of tiny Qwen 3.5 models and their heads in transformers.

    python -m tests.engine.heads_reference

Needs torch and transformers, which the tests do not. transformers has no MTP head: it is assembled
here from a layer of the target's class.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from localmtp.bench.lab.convert.qwen_checkpoints import qwen_tensors, write_qwen

OUT = Path(__file__).with_name("heads_reference.npz")
SHAPES = ("9B", "35B-A3B")
TOKENS = [int(token) for token in np.random.default_rng(3).integers(10, 250, 40)]
EVERY = 4
"""Positions that are recorded: every fourth."""


def main() -> None:
    """Runs every shape."""
    recorded: dict[str, Any] = {}
    for shape in SHAPES:
        with TemporaryDirectory() as folder:
            directory = write_qwen(Path(folder, "checkpoint"), shape, dtype="F32")
            for name, array in reference(directory, shape).items():
                recorded[f"{shape} {name}"] = array[::EVERY].astype(np.float32)
    np.savez_compressed(OUT, **recorded)


def reference(directory: Path, shape: str) -> dict[str, Any]:
    """Returns logits [tokens, n_vocab] of the target and of its head."""
    import torch
    from transformers import AutoConfig, Qwen3_5ForCausalLM, Qwen3_5MoeForCausalLM

    kind: Any = Qwen3_5MoeForCausalLM if shape == "35B-A3B" else Qwen3_5ForCausalLM
    config = AutoConfig.from_pretrained(directory).text_config
    weights = {name: torch.from_numpy(array) for name, array in qwen_tensors(shape).items()}
    text = {k.replace("model.language_model.", "model."): v for k, v in weights.items()}
    model = _loaded(kind, config, text)
    one = {"num_hidden_layers": 1, "layer_types": ["full_attention"]}
    of_head = {k.replace("mtp.", "model."): v for k, v in weights.items() if k.startswith("mtp.")}
    head = _loaded(kind, type(config).from_dict({**config.to_dict(), **one}), of_head)

    def norm(rows: Any, weight: str) -> Any:
        scale = rows.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps
        return rows * torch.rsqrt(scale) * (1 + weights[weight])

    tokens = torch.tensor([TOKENS])
    with torch.no_grad():
        hidden = model.model(tokens).last_hidden_state
        before = torch.cat([torch.zeros_like(hidden[:, :1]), hidden[:, :-1]], 1)
        embedded = model.get_input_embeddings()(tokens)
        joined = torch.cat(
            [
                norm(embedded, "mtp.pre_fc_norm_embedding.weight"),
                norm(before, "mtp.pre_fc_norm_hidden.weight"),
            ],
            -1,
        )
        positions = torch.arange(len(TOKENS))[None]
        inputs = joined @ weights["mtp.fc.weight"].T
        drafted = head.model(inputs_embeds=inputs, position_ids=positions).last_hidden_state
        output = model.lm_head.weight
        return {"logits": (hidden @ output.T)[0].numpy(), "head": (drafted @ output.T)[0].numpy()}


def _loaded(kind: Any, config: Any, weights: dict[str, Any]) -> Any:
    config._attn_implementation = "eager"
    model = kind(config).float().eval()
    missing, _ = model.load_state_dict(weights, strict=False)
    assert set(missing) <= {"lm_head.weight", "model.embed_tokens.weight"}, missing
    return model


if __name__ == "__main__":
    main()
