"""`localmtp share`: converted files to the Hugging Face hub, with a model card."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from localmtp.cli import output


@click.command("share", short_help="Converted files to the Hugging Face hub.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("repo", metavar="USER/REPO")
@click.option("--public", is_flag=True, help="Let everybody see it.  [default: private]")
@click.option("--dry-run", is_flag=True, help="Print the card and what would be uploaded.")
@click.option(
    "--base-model",
    "base_models",
    metavar="USER/REPO",
    multiple=True,
    help="The checkpoint that was converted; may be repeated.  [default: as the files say]",
)
@click.option("--license", "license_", metavar="ID", help="[default: as the files say]")
@click.option("--quantized-by", metavar="NAME", help="[default: as the files say]")
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

    The card has what the files say of themselves, what `convert --report` measured, and how to run
    them; a README.md in DIR is taken instead. An upload that was interrupted goes on when the
    command is repeated.

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
        click.echo(f"would be uploaded to {repo} ({visible}): {CARD}", err=True)
        for file in contents.files:
            click.echo(f"  {file.name}  {file.stat().st_size:,} bytes", err=True)
        return
    shared = upload(contents.files, card, repo, public=public, show_progress=sys.stderr.isatty())
    output.line(f"{shared.url} ({'private' if shared.private else 'public'})")
