"""llama.cpp's own server."""

from __future__ import annotations

from localmtp.plan.recipe import Pair, Recipe, fetched

_URL = "http://127.0.0.1:8080"


def recipe(pair: Pair) -> Recipe:
    """The same files behind `llama-server`.

    `--spec-type draft-mtp` is needed: with `-md` alone this drafter is loaded and never used.
    """
    files, downloads = fetched(pair)
    command = ["llama-server", "-m", files.target]
    if pair.n_draft:
        command += ["-md", files.drafter, "--spec-type", "draft-mtp"]
        command += ["--spec-draft-n-max", str(pair.n_draft)]
    command += ["-c", str(pair.context), "-np", "1", "--port", "8080"]
    return Recipe(
        commands=(*downloads, tuple(command)),
        url=_URL,
        notes=(
            "its draft length is fixed, and sampled answers keep a draft only where the target "
            "would have drawn the same token: measure at the temperature that you use",
            "-np 1 answers one request at a time, where drafting gains most; with -np 4 -c is "
            "shared by four",
            "its layers go to a GPU by themselves where it was built for one",
        ),
        checked="run with nano on llama.cpp 0c1e570, which llama-cpp-python 0.3.36 contains",
    )
