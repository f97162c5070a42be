"""`localmtp share`: uploads converted files to the Hugging Face hub, with a model card."""

from __future__ import annotations

from pathlib import Path

import click

from localmtp.cli import output


@click.command("share", short_help="Upload converted files to the Hugging Face hub.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("repo", metavar="USER/REPO")
@click.option("--public", is_flag=True, help="Make the repository public.  [default: private]")
@click.option("--dry-run", is_flag=True, help="Print the model card and the files only.")
@click.option(
    "--base-model",
    "base_models",
    metavar="USER/REPO",
    multiple=True,
    help="Source checkpoint; repeatable.  [default: from the files]",
)
@click.option("--license", "license_", metavar="ID", help="[default: from the files]")
@click.option("--quantized-by", metavar="NAME", help="[default: from the files]")
def command(
    directory: Path,
    repo: str,
    public: bool,
    dry_run: bool,
    base_models: tuple[str, ...],
    license_: str | None,
    quantized_by: str | None,
) -> None:
    """Upload the GGUF files in DIR to USER/REPO, with a model card.

    The card describes the files, the measurements of `convert --report` and how to run them; a
    README.md in DIR replaces it. Repeat the command to resume an interrupted upload.

    \b
        localmtp share gguf USER/gemma-4-E4B-it-GGUF
        localmtp share gguf USER/gemma-4-E4B-it-GGUF --dry-run > gguf/README.md
    """  # noqa: D301 - click looks for the control character
    from localmtp.share.card import CardOverrides, model_card
    from localmtp.share.contents import CARD, read_contents
    from localmtp.share.upload import require_repository_name, upload

    require_repository_name(repo)
    contents = read_contents(directory)
    given = CardOverrides(base_models, license_, quantized_by)
    card = contents.card or model_card(contents, repo, given)
    if dry_run:
        output.text(card)
        visible = "public" if public else "private"
        output.note(f"would be uploaded to {repo} ({visible}): {CARD}")
        for file in contents.files:
            output.note(f"  {file.name}  {file.stat().st_size:,} bytes")
        return
    shared = upload(
        contents.files, card, repo, public=public, show_progress=output.shows_progress()
    )
    output.line(f"{shared.url} ({'private' if shared.private else 'public'})")
