"""Command line options of a pair and its prompts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from localmtp.bench.workloads import workloads_for, workloads_in
from localmtp.engine.kv_type import KVType
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.models import ModelFiles, resolve
from localmtp.session import Message, Role, Settings, render
from localmtp.session.prompts import chat_template, prompt_tokens


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded pair with its prompts."""

    files: ModelFiles
    pair: Pair
    prompts: list[list[int]]
    """Token ids, in the chat template if there is one."""


def add_options(parser: argparse.ArgumentParser, *, prompts: int, max_tokens: int) -> None:
    """Adds the options of a pair and its prompts, with these defaults."""
    parser.add_argument("model", help="a name or PATH.gguf, as for `localmtp run`")
    parser.add_argument("--drafter", help="PATH.gguf or `lookup`; by default the model's own")
    parser.add_argument("--prompts-file", help="prompts by workload, as for `localmtp bench`")
    parser.add_argument(
        "--prompts", type=int, default=prompts, help="most per workload [%(default)s]"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=max_tokens, help="of an answer [%(default)s]"
    )
    types = [kv_type.value for kv_type in KVType]
    parser.add_argument("--kv-type", choices=types, default=KVType.F16.value)


@contextmanager
def opened(
    given: argparse.Namespace, *, threads: int = 1, context: int = 2048, parallel: int = 1
) -> Iterator[Opened]:
    """Loads the pair of these options and tokenizes its prompts.

    Args:
        given: parsed options of `add_options`.
        threads: compute threads.
        context: tokens of each sequence.
        parallel: number of sequences.

    Raises:
        LocalmtpError: see `resolve`, `Pair.load` and `workloads_in`.
    """
    files = resolve(given.model, drafter=given.drafter)
    own = workloads_in(given.prompts_file) if given.prompts_file else None
    options = LoadOptions(
        threads=threads,
        context=context,
        parallel=parallel,
        kv_type=KVType(given.kv_type),
    )
    with Pair.load(files.target, files.drafter, options, lookup=files.lookup) as pair:
        template = chat_template(pair)
        prompts = [
            prompt_tokens(
                pair, render(template, files.name, [Message(Role.USER, text)], Settings())
            )
            for listed in workloads_for(files.name, given.prompts, own).values()
            for text in listed
        ]
        longest = pair.target.n_ctx - given.max_tokens
        yield Opened(files, pair, [prompt for prompt in prompts if len(prompt) < longest])
