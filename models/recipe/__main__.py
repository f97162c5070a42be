"""Makes nano from nothing: text, tokenizer, target, drafter, GGUF.

    python -m localmtp.models.recipe --out DIRECTORY [--minutes 60]

Needs torch and transformers besides localmtp.
"""

import argparse
from pathlib import Path

import torch

from localmtp.convert import Options, convert
from localmtp.models.recipe import corpus, distillation, drafter, target, tokenizer

CONVERSATIONS = 12_000
"""What the tokenizer is trained on."""
VOCABULARY = 2560
TARGET_SHARE = 0.6
"""Of the time; the drafter gets the rest."""


def make(out: Path, minutes: float) -> None:
    """Writes hf-target, hf-drafter, prompts.json and two GGUF files to out."""
    target_directory, drafter_directory = out / "hf-target", out / "hf-drafter"
    tokenizer.train(corpus.texts(CONVERSATIONS), VOCABULARY, target_directory)
    tokenizer.copy(target_directory, drafter_directory)
    corpus.write_prompts(out / "prompts.json")
    model = target.begin(target_directory)
    target.train(model, target_directory, TARGET_SHARE * minutes)
    assistant = drafter.begin(model)
    distillation.train(model, assistant, drafter_directory, (1 - TARGET_SHARE) * minutes)
    options = Options(
        quants=["Q8_0"], drafter_quants=["Q8_0"], name="nano", license="apache-2.0", force=True
    )
    convert(target_directory, out, drafter_source=drafter_directory, options=options)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Train nano from nothing and convert it.")
    parser.add_argument("--out", type=Path, required=True, help="directory for everything made")
    parser.add_argument("--minutes", type=float, default=60, help="training time [%(default)s]")
    parser.add_argument("--threads", type=int, help="CPU threads [all]")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    make(arguments.out, arguments.minutes)


if __name__ == "__main__":
    main()
