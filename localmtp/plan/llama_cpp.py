"""Plans for llama.cpp's server."""

from __future__ import annotations

from localmtp.plan.recipe import LaunchRecipe, PlannedPair, with_downloads

_URL = "http://127.0.0.1:8080"

_CHECKED = "run with nano on llama.cpp 0c1e570, which llama-cpp-python 0.3.36 contains"
_HEAD_CHECKED = (
    "run with a small Qwen 3.5, its head in the file and in one of its own, on llama.cpp 0c1e570, "
    "which llama-cpp-python 0.3.36 contains"
)
_MODEL_CHECKED = (
    "run with nano and a copy of it as its draft model, on llama.cpp 0c1e570, which "
    "llama-cpp-python 0.3.36 contains"
)

_ABOUT_DRAFT_MODELS = (
    "a draft model has a KV cache of its own for the whole context, and reads all its weights for "
    "each drafted token: it pays if it is many times smaller than the target",
)

_ABOUT_IMAGES = (
    "--mmproj loads the projector for images and sound at the start; its reader of images knows no "
    "WebP, and takes up to 1,120 tokens for one: --image-max-tokens limits them",
)


def recipe(pair: PlannedPair) -> LaunchRecipe:
    """Returns a `llama-server` command for the same files.

    `--spec-type` is needed: with `-md` alone the drafter is loaded but never used. An MTP head in
    the target's file needs no `-md`.
    """
    files, downloads = with_downloads(pair)
    command = ["llama-server", "-m", files.target]
    if pair.n_draft:
        if not pair.head_in_file:
            command += ["-md", files.drafter]
        kind = "draft-simple" if pair.draft_model else "draft-mtp"
        command += ["--spec-type", kind, "--spec-draft-n-max", str(pair.n_draft)]
    if files.projector:
        command += ["--mmproj", files.projector]
    command += ["-c", str(pair.context), "-np", "1", "--port", "8080"]
    return LaunchRecipe(
        commands=(*downloads, tuple(command)),
        url=_URL,
        notes=(
            "the draft length is fixed, and sampling accepts a drafted token only where the "
            "target draws the same one: measure at your temperature",
            "-np 1 serves one request at a time, where drafting gains most; with -np 4, four "
            "requests share -c",
            *(_ABOUT_DRAFT_MODELS if pair.n_draft and pair.draft_model else ()),
            *(_ABOUT_IMAGES if files.projector else ()),
            "layers are offloaded automatically if it was built for a GPU",
        ),
        checked=_MODEL_CHECKED
        if pair.draft_model
        else _HEAD_CHECKED
        if pair.head_in_file
        else _CHECKED,
    )
