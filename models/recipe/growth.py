"""Grows a trained target without changing its function: more layers and wider MLPs.

The residual stream, the vocabulary, and the keys and values that the drafter reads are unchanged,
so a drafter of the smaller target drafts for the larger one. A pair is read back from its GGUF
files.
"""

import json
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from torch import Tensor, nn
from transformers import Gemma4AssistantForCausalLM, Gemma4ForCausalLM

from localmtp.convert.architectures.gemma4.config import read_config
from localmtp.convert.architectures.gemma4.tensors import slots
from localmtp.convert.architectures.tensor_plan import plain_name
from localmtp.convert.huggingface.checkpoint import open_checkpoint
from localmtp.models.recipe import corpus, drafter, target, tokenizer
from localmtp.models.recipe.training import save, soften

POST_NORMS = (
    "post_attention_layernorm.weight",
    "post_feedforward_layernorm.weight",
    "post_per_layer_input_norm.weight",
)
"""A layer in which these are zero adds nothing to the residual stream."""
SKELETON_TEXTS = 64
"""Texts for a tokenizer whose vocabulary is replaced."""


def read_pair(
    target_file: Path, drafter_file: Path, directory: Path
) -> tuple[Gemma4ForCausalLM, Gemma4AssistantForCausalLM]:
    """Reads target and drafter, whose shapes must be the recipe's, and writes their tokenizer.

    Args:
        target_file: target as GGUF.
        drafter_file: drafter as GGUF.
        directory: receives hf-target and hf-drafter.
    """
    target_directory, drafter_directory = directory / "hf-target", directory / "hf-drafter"
    read_tokenizer(target_file, target_directory)
    tokenizer.copy(target_directory, drafter_directory)
    model = target.initialize(target_directory)
    read_weights(model, target_file, target_directory)
    assistant = drafter.initialize(model)
    read_weights(assistant, drafter_file, drafter_directory)
    return model, assistant


def read_tokenizer(file: Path, directory: Path) -> None:
    """Writes the tokenizer of a GGUF file of the recipe to `directory`."""
    tokenizer.train(corpus.texts(corpus.generated(), SKELETON_TEXTS), 1024, directory)
    fields = GGUFReader(file).fields
    path = directory / "tokenizer.json"
    data = json.loads(path.read_text("utf-8"))
    tokens = fields["tokenizer.ggml.tokens"].contents()
    data["model"]["vocab"] = {token: index for index, token in enumerate(tokens)}
    merges = fields["tokenizer.ggml.merges"].contents()
    data["model"]["merges"] = [merge.split(" ") for merge in merges]
    path.write_text(json.dumps(data, ensure_ascii=False), "utf-8")


def read_weights(model: nn.Module, file: Path, directory: Path) -> None:
    """Replaces a model's weights by those of a GGUF file, in place.

    Args:
        model: a target or drafter of the same shape.
        file: GGUF file of any type.
        directory: receives a checkpoint of the model.
    """
    model.config.save_pretrained(directory)
    save(model, directory)
    config = read_config(open_checkpoint(directory), type(model).__name__)
    names = {slot.hf_name: slot.name for slot in slots(config)}
    stored = {tensor.name: tensor for tensor in GGUFReader(file).tensors}
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if (slot := names.get(plain_name(name))) in stored:
                tensor = stored[slot]
                weights = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
                value.copy_(torch.from_numpy(weights).reshape(value.shape))
    save(model, directory)


def grow(model: Gemma4ForCausalLM, shape: target.Shape) -> Gemma4ForCausalLM:
    """Returns a larger target that computes the same logits.

    Args:
        model: the target to grow.
        shape: at least as many layers, and MLPs at least as wide.
    """
    torch.manual_seed(corpus.TRAINING_SEED)
    config = target.configuration(model.config.vocab_size, shape)
    grown = Gemma4ForCausalLM(config)
    grown.generation_config = model.generation_config
    soften(grown)
    old = model.model
    places = _places(model.config.num_hidden_layers, shape)
    with torch.no_grad():
        grown.model.embed_tokens.weight.copy_(old.embed_tokens.weight)
        grown.model.norm.weight.copy_(old.norm.weight)
        grown.model.per_layer_projection_norm.weight.copy_(old.per_layer_projection_norm.weight)
        _copy_per_layer(old, grown.model, places)
        for index, layer in enumerate(grown.model.layers):
            if index in places:
                _copy_layer(old.layers[places[index]], layer)
            else:
                for name in POST_NORMS:
                    layer.get_parameter(name).zero_()
    return grown


def _places(layers: int, shape: target.Shape) -> dict[int, int]:
    """Layer of the grown target → layer of the old one, which it repeats.

    The drafter and the layers that share keys and values read those of the last sliding and the
    last full layer before them, which are therefore old ones.
    """
    group = len(target.GROUP)
    last_own = group * (shape.own_groups - 1)
    own = {last_own + i: i for i in range(group)}
    total = group * (shape.own_groups + shape.sharing_groups)
    sharing = {total - group + i: layers - group + i for i in range(group)}
    return own | sharing


def _copy_per_layer(old: torch.nn.Module, new: torch.nn.Module, places: dict[int, int]) -> None:
    """Copies the per-layer embeddings and their projection to the layers' new places."""
    width = len(old.per_layer_projection_norm.weight)
    for index, place in places.items():
        into, source = _span(index, width), _span(place, width)
        new.embed_tokens_per_layer.weight[:, into] = old.embed_tokens_per_layer.weight[:, source]
        new.per_layer_model_projection.weight[into] = old.per_layer_model_projection.weight[source]


def _span(index: int, width: int) -> slice:
    return slice(index * width, (index + 1) * width)


def _copy_layer(old: torch.nn.Module, new: torch.nn.Module) -> None:
    """Copies a layer; additional MLP units are random, and their down projection is zero."""
    values = dict(old.named_parameters()) | dict(old.named_buffers())
    for name, value in [*new.named_parameters(), *new.named_buffers()]:
        _copy(values[name], value, zero=name == "mlp.down_proj.weight")


def _copy(old: Tensor, new: Tensor, *, zero: bool) -> None:
    if zero:
        new.zero_()
    new[tuple(slice(size) for size in old.shape)] = old
