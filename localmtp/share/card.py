"""Model cards: front matter for the hub, tables of files and quality, usage.

The keys of the front matter are the hub's: https://huggingface.co/docs/hub/model-cards#model-card-metadata
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from huggingface_hub import ModelCardData

from localmtp.convert.quality.report import TARGET_COLUMNS, Report, drafter_columns
from localmtp.models.naming.quant import pick_target, quant_label
from localmtp.share.contents import Contents, SharedModel

_HUB = "https://huggingface.co/"
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_TAGS = ("gguf", "llama.cpp", "localmtp")
_DRAFTER_TAGS = ("mtp", "speculative-decoding")
_ON_FILES = ("text-generation", "gguf", "imatrix")
"""Tags of the source that do not apply to a quantized copy, or are added anyway."""


@dataclass(frozen=True, slots=True)
class CardOverrides:
    """Values that take precedence over the metadata of the files."""

    base_models: Sequence[str] = ()
    """`USER/REPO` of the checkpoints."""
    license: str | None = None
    quantized_by: str | None = None


def model_card(contents: Contents, repo: str, overrides: CardOverrides = CardOverrides()) -> str:
    """Returns the README.md of a repository.

    Args:
        contents: the files.
        repo: `USER/REPO` to upload to.
        overrides: values that take precedence over the metadata of the files.
    """
    bases = list(overrides.base_models) or _base_models(contents.models)
    front = ModelCardData(
        base_model=bases or None,
        license=overrides.license or _first(contents.models, "license"),
        license_name=None if overrides.license else _first(contents.models, "license.name"),
        license_link=None if overrides.license else _first(contents.models, "license.link"),
        language=_listed(contents.models, "languages") or None,
        library_name="gguf",
        pipeline_tag="image-text-to-text" if "image" in contents.media else "text-generation",
        tags=_tags(contents),
        base_model_relation="quantized" if bases else None,
        quantized_by=overrides.quantized_by or _first(contents.models, "quantized_by"),
    ).to_yaml()
    sections = (
        f"---\n{front}\n---",
        f"# {repo.partition('/')[2]}",
        _introduction(bases, contents),
        _files(contents),
        *(_measured(report) for report in contents.reports),
        _how_to_run(contents, repo),
    )
    return "\n\n".join(sections) + "\n"


def _base_models(models: Sequence[SharedModel]) -> list[str]:
    """Returns the converted checkpoints; for one that is not on the hub, its own base model."""
    found: dict[str, None] = {}
    for model in models:
        for key in ("source.repo_url", "base_model.0.repo_url"):
            url = model.general(key)
            repository = url.removeprefix(_HUB) if isinstance(url, str) else ""
            if _REPOSITORY.fullmatch(repository):
                found[repository] = None
                break
    return list(found)


def _first(models: Iterable[SharedModel], key: str) -> str | None:
    values = (model.general(key) for model in models)
    return next((" ".join(str(value).split()) for value in values if value), None)


def _listed(models: Iterable[SharedModel], key: str) -> list[str]:
    """Returns the elements of a list in the metadata of the models, without duplicates."""
    values = [model.general(key) for model in models]
    lists = [value for value in values if isinstance(value, tuple)]
    return list(dict.fromkeys(str(element) for value in lists for element in value))


def _tags(contents: Contents) -> list[str]:
    own = [tag for tag in _listed(contents.models, "tags") if tag not in _ON_FILES]
    drafting = _DRAFTER_TAGS if contents.drafters or contents.has_head else ()
    kind, *others = _TAGS
    family = contents.family.lower().replace(" ", "")
    return list(dict.fromkeys((kind, family, *others, *drafting, *own)))


def _introduction(bases: Sequence[str], contents: Contents) -> str:
    family = contents.family
    subject = f"{family} in GGUF" if contents.targets else f"A drafter for {family} in GGUF"
    of = f", made from {_links(bases)}" if bases else ""
    drafting = " together with the drafter that makes it faster" if contents.drafters else ""
    if contents.has_head:
        drafting = " together with the MTP head that makes it faster"
    if contents.media:
        names = {"image": "images", "audio": "sound"}
        read = " and ".join(names[kind] for kind in contents.media)
        drafting += f"{', and' if drafting else ' with'} the projector with which it reads {read}"
    return (
        f"{subject}{of}{drafting if contents.targets else ''}. Converted and quantized with "
        "`localmtp convert`."
    )


def _links(repos: Sequence[str]) -> str:
    return " and ".join(f"[{repo}]({_HUB}{repo})" for repo in repos)


def _files(contents: Contents) -> str:
    rows = [
        (
            model.name + (f" and {len(model.parts) - 1} more" if model.parts[1:] else ""),
            model.kind,
            model.quant,
            f"{model.size / 1e9:.2f} GB" if model.size >= 1e8 else f"{model.size / 1e6:.2f} MB",
            f"{model.bits_per_weight:.2f}",
        )
        for model in contents.models
    ]
    return "## Files\n\n" + _table(("file", "is a", "type", "size", "bits per weight"), rows)


def _measured(report: Report) -> str:
    text = "the text that localmtp ships" if report.text == "default" else _quoted(report.text)
    parts = [
        f"## Measured\n\nOn {report.positions} tokens of {text}; divergence and agreement are "
        f"against {_quoted(report.reference)}.",
        _table(TARGET_COLUMNS, [score.row() for score in report.targets]),
    ]
    if report.drafters:
        parts += [
            f"Drafts that {_quoted(report.reference)} accepts, by their position, both greedy:",
            _table(drafter_columns(report.drafters), [score.row() for score in report.drafters]),
        ]
    return "\n\n".join(parts)


def _how_to_run(contents: Contents, repo: str) -> str:
    """Returns commands that can be pasted unchanged."""
    parts = ["## Running it"]
    drafter = contents.drafters[0].name if contents.drafters else ""
    if not contents.targets:
        return "\n\n".join(
            (*parts, "With a target of the same size and training:", _drafter_alone(repo, drafter))
        )
    quant = quant_label(pick_target([model.name for model in contents.targets], "", "") or "")
    model = f"{repo}:{quant}" if quant else repo
    drafting = " --spec-type draft-mtp" if drafter or contents.has_head else ""
    commands = [f"localmtp chat {model}"]
    if "image" in contents.media:
        commands.append(f'localmtp run {model} "What is this?" --image photo.jpg')
    parts += [
        _code(*commands),
        "With llama.cpp:",
        _code(f"llama-server -hf {model}{drafting}"),
    ]
    return "\n\n".join(parts)


def _drafter_alone(repo: str, drafter: str) -> str:
    return _code(
        f"hf download {repo} {drafter} --local-dir .",
        f"localmtp chat TARGET.gguf --drafter {drafter}",
        f"llama-server -m TARGET.gguf -md {drafter} --spec-type draft-mtp",
    )


def _code(*lines: str) -> str:
    return "\n".join(("```", *lines, "```"))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (head, ["---"] * len(head), *rows)
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _quoted(text: str) -> str:
    """Formats the name of a file as code, on one line."""
    return f"`{' '.join(text.split()).replace('`', '')}`"


def _cell(text: str) -> str:
    """Escapes a cell of a table, such as a file's name."""
    return " ".join(text.split()).replace("|", "\\|")
