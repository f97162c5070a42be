"""Plans for Ollama, whose Modelfile takes a target and a drafter."""

from __future__ import annotations

import re
from pathlib import PurePath

from localmtp.plan.recipe import LaunchRecipe, PlannedPair, with_downloads

_ABOUT_IMAGES = (
    "the second FROM is the projector for images: `ollama show` lists vision if it was accepted; "
    "without it, pull the model from Ollama's own library",
)

_ABOUT_DRAFTS = (
    "it passes --spec-type draft-mtp to llama.cpp's server if DRAFT is a GGUF file; older releases "
    "reject or ignore the line",
    "`ollama show --modelfile` shows whether the DRAFT line was accepted",
)

_ABOUT_DRAFT_MODELS = (
    "a DRAFT line is for MTP drafters, because Ollama starts llama.cpp's server with --spec-type "
    "draft-mtp; `localmtp plan --for llama.cpp` has a command with the draft model",
)

_ABOUT_HEADS = (
    "it drafts with a file that a DRAFT line names, and none is named for an MTP head in the "
    "target's file: `localmtp convert --no-mtp --mtp` writes them as two files",
)


def recipe(pair: PlannedPair) -> LaunchRecipe:
    """Returns a Modelfile for the same files, and the commands to create and run it."""
    files, downloads = with_downloads(pair)
    lines = [f"FROM {_quoted(files.target)}"]
    if files.projector:
        lines.append(f"FROM {_quoted(files.projector)}")
    if pair.n_draft and not pair.head_in_file and not pair.draft_model:
        lines += [f"DRAFT {_quoted(files.drafter)}", f"PARAMETER draft_num_predict {pair.n_draft}"]
    lines.append(f"PARAMETER num_ctx {pair.context}")
    lines += [f"PARAMETER {name} {value:g}" for name, value in pair.sampling.items()]
    stem = PurePath(pair.name.rpartition("/")[2]).name.removesuffix(".gguf").lower()
    name = f"localmtp-{re.sub(r'[^a-z0-9._-]+', '-', stem)}"
    return LaunchRecipe(
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
            "Ollama copies the files into its own store",
            *(_ABOUT_IMAGES if files.projector else ()),
            *_about_drafting(pair),
        ),
        checked="docs/modelfile.mdx, parser/parser.go and llm/llama_server.go of ollama/ollama; "
        "not run",
    )


def _about_drafting(pair: PlannedPair) -> tuple[str, ...]:
    if pair.draft_model:
        return _ABOUT_DRAFT_MODELS
    return _ABOUT_HEADS if pair.head_in_file else _ABOUT_DRAFTS


def _quoted(path: str) -> str:
    return f'"{path}"' if " " in path else path
