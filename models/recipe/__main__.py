"""Trains nano from scratch: text, tokenizer, target, drafter, GGUF.

    python -m localmtp.models.recipe --out DIRECTORY [--minutes 60] [--text FOLDER | --grow UNITS]

Needs torch and transformers in addition to localmtp (the `train` extra).
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from localmtp.convert import Options, convert
from localmtp.models.embedded import embedded_files
from localmtp.models.recipe import corpus, distillation, drafter, target, tokenizer
from localmtp.models.recipe.continuation import Continuations
from localmtp.models.recipe.growth import grow, read_pair

CONVERSATIONS = 12_000
"""Number of conversations that the tokenizer is trained on."""
VOCABULARY = 2560
"""Number of tokens, control tokens included."""
TARGET_SHARE = 0.6
"""Fraction of the time for the target; the rest is for the drafter."""
GROWTH_RATE = 1e-3
"""Peak learning rate of a pair that was trained before."""
GROWN_SLIDING_LAYERS = 1
"""Sliding-window layers of a grown pair's drafter, whose step should take a tenth of a pass."""


def train_pair(draw: corpus.Draw, out: Path, minutes: float, options: Options) -> None:
    """Trains a pair and converts it.

    Args:
        draw: draws conversations to train on.
        out: receives hf-target, hf-drafter and two GGUF files.
        minutes: training time of both models together.
        options: options of the conversion.
    """
    target_directory, drafter_directory = out / "hf-target", out / "hf-drafter"
    tokenizer.train(corpus.texts(draw, CONVERSATIONS), VOCABULARY, target_directory)
    tokenizer.copy(target_directory, drafter_directory)
    model = target.initialize(target_directory)
    target.train(model, draw, target_directory, TARGET_SHARE * minutes)
    assistant = drafter.initialize(model)
    distillation.train(model, assistant, draw, drafter_directory, (1 - TARGET_SHARE) * minutes)
    convert(target_directory, out, drafter_source=drafter_directory, options=options)


def grow_pair(units: int, draw: corpus.Draw, out: Path, minutes: float, options: Options) -> None:
    """Widens the embedded target's MLPs, shortens its drafter, trains both and converts them.

    Args:
        units: units of the MLPs; layers that share keys and values have twice as many.
        draw: draws conversations to train on.
        out: receives hf-target, hf-drafter and two GGUF files.
        minutes: training time of both models together.
        options: options of the conversion.
    """
    files = embedded_files()
    assert files.drafter is not None
    model, assistant = read_pair(files.target, files.drafter, out)
    model = grow(model, target.Shape(mlp=units))
    target.train(model, draw, out / "hf-target", TARGET_SHARE * minutes, GROWTH_RATE)
    assistant = drafter.shorten(assistant, model, GROWN_SLIDING_LAYERS)
    rest = (1 - TARGET_SHARE) * minutes
    distillation.train(model, assistant, draw, out / "hf-drafter", rest, GROWTH_RATE)
    convert(out / "hf-target", out, drafter_source=out / "hf-drafter", options=options)


def main() -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(description="Train nano from scratch and convert it.")
    parser.add_argument("--out", type=Path, required=True, help="directory for all files")
    parser.add_argument("--minutes", type=float, default=60, help="training time [%(default)s]")
    parser.add_argument("--threads", type=int, help="CPU threads [all]")
    parser.add_argument(
        "--text",
        type=Path,
        help="train a pair that continues the Python files in this folder, instead of nano",
    )
    parser.add_argument(
        "--grow",
        type=int,
        metavar="UNITS",
        help="widen the MLPs of the embedded pair to this size and train it further",
    )
    parser.add_argument(
        "--bfloat16",
        action="store_true",
        help="multiply matrices in bfloat16; faster on processors that have it (avx512_bf16)",
    )
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    out, minutes = arguments.out, arguments.minutes
    options = Options(quants=["Q8_0"], drafter_quants=["Q8_0"], force=True)
    draw: corpus.Draw
    if arguments.text:
        try:
            text = Continuations(arguments.text)
        except ValueError as error:
            parser.error(str(error))
        draw, prompts = text.draw, text.held_out()
        options = replace(options, name=arguments.text.name)
    else:
        draw, prompts = corpus.generated(), corpus.held_out()
        options = replace(options, name="nano", license="apache-2.0")
    corpus.write_prompts(prompts, out / "prompts.json")
    with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bfloat16):
        if arguments.grow:
            grow_pair(arguments.grow, draw, out, minutes, options)
        else:
            train_pair(draw, out, minutes, options)


if __name__ == "__main__":
    main()
