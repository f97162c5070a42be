"""Ollama, whose Modelfile takes a drafter beside the model."""

from __future__ import annotations

import re
from pathlib import PurePath

from localmtp.engine.sampling.params import SamplingParams
from localmtp.plan.recipe import Pair, Recipe, fetched


def recipe(pair: Pair) -> Recipe:
    """The same files as a model of Ollama's."""
    files, downloads = fetched(pair)
    sampling = SamplingParams()
    lines = [f"FROM {_quoted(files.target)}"]
    if pair.n_draft:
        lines += [f"DRAFT {_quoted(files.drafter)}", f"PARAMETER draft_num_predict {pair.n_draft}"]
    lines += [
        f"PARAMETER num_ctx {pair.context}",
        f"PARAMETER temperature {sampling.temperature:g}",
        f"PARAMETER top_k {sampling.top_k}",
        f"PARAMETER top_p {sampling.top_p:g}",
    ]
    stem = PurePath(pair.name.rpartition("/")[2]).name.removesuffix(".gguf").lower()
    name = f"localmtp-{re.sub(r'[^a-z0-9._-]+', '-', stem)}"
    return Recipe(
        commands=(
            *downloads,
            ("ollama", "create", name, "-f", "Modelfile"),
            ("ollama", "run", name),
        ),
        url="http://127.0.0.1:11434",
        served_as=name,
        file="\n".join(lines) + "\n",
        file_name="Modelfile",
        notes=(
            "Ollama copies both files into its own store",
            "it starts llama.cpp's server with --spec-type draft-mtp for a DRAFT that is a GGUF "
            "file; releases before that runner refuse the line or ignore it",
            "`ollama show --modelfile` shows whether the DRAFT line was taken",
        ),
        checked="docs/modelfile.mdx, parser/parser.go and llm/llama_server.go of ollama/ollama; "
        "not run",
    )


def _quoted(path: str) -> str:
    return f'"{path}"' if " " in path else path
