"""Describes the served model as Ollama's API does."""

from __future__ import annotations

from datetime import UTC, datetime

from localmtp.serve.dialects.reading import Json
from localmtp.serve.generation.model import ServedModel

VERSION = "0.12.6"
"""Version of Ollama whose API this follows: clients refuse older ones."""


def tag(model: ServedModel) -> Json:
    """Entry of `/api/tags` and `/api/ps`."""
    facts = model.facts
    modified = datetime.fromtimestamp(facts.modified, UTC).isoformat()
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": modified,
        "expires_at": modified,
        "size": facts.size,
        "size_vram": 0,
        "digest": facts.digest,
        "details": _details(model),
    }


def shown(model: ServedModel) -> Json:
    """Body of `/api/show`."""
    facts = model.facts
    capabilities = ["completion"]
    capabilities += ["tools"] if model.knows_tools else []
    capabilities += ["thinking"] if model.markers else []
    capabilities += ["vision"] if "image" in model.media else []
    return {
        "modelfile": f"FROM {model.name}",
        "parameters": "",
        "template": facts.template,
        "details": _details(model),
        "model_info": {
            "general.architecture": facts.architecture,
            f"{facts.architecture}.context_length": model.context_size,
            f"{facts.architecture}.embedding_length": facts.embedding_length,
        },
        "capabilities": capabilities,
        "modified_at": datetime.fromtimestamp(facts.modified, UTC).isoformat(),
    }


def _details(model: ServedModel) -> Json:
    architecture = model.facts.architecture
    return {
        "parent_model": "",
        "format": "gguf",
        "family": architecture,
        "families": [architecture],
        "parameter_size": "",
        "quantization_level": model.facts.quant,
    }
