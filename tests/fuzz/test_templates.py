"""Mutated chat templates: a bounded prompt, or an error of one line."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

from localmtp.engine.text.chat_template import ChatTemplate
from localmtp.errors import LocalmtpError
from localmtp.models.embedded import embedded_files
from localmtp.models.gguf_header import read_header
from tests.fuzz.budget import examples, one_input, peak_memory, seeds

_PEAK_MEGABYTES = 512
_MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi <turn|> {{ 1 }}"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "\ud800\x00"},
]
_TOOLS = [
    {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}},
]
_FRAGMENTS = (
    "{% for i in range(99999999) %}a{% endfor %}",
    "{% for i in messages %}{% for j in messages %}{% for k in range(9999) %}{{ k }}{% endfor %}"
    "{% endfor %}{% endfor %}",
    "{{ 'a' * 999999999 }}",
    "{{ [messages] * 99999999 }}",
    "{% set x = 'a' %}{% for i in range(64) %}{% set x = x ~ x %}{% endfor %}{{ x }}",
    "{% set n = namespace(x='a') %}{% for i in range(64) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ messages | tojson(indent=99999999) }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '{:999999999}'.format(1) }}",
    "{{ 'a'.ljust(999999999) }}",
    "{{ 'a' | center(999999999) }}",
    "{{ messages | map('string') | join('a' * 9999) }}",
    "{{ raise_exception('no\nno') }}",
    "{{ strftime_now('%Y' * 9999) }}",
    "{{ messages[9].content }}",
    "{{ messages.pop() }}",
    "{% include 'a' %}",
    "{% extends 'a' %}",
    "{{ lipsum(n=99999) }}",
    "{{ undefined.a.b }}",
    "{% break %}",
    "{% generation %}a{% endgeneration %}",
    "{{ (1).to_bytes(999999999, 'big') }}",
    "{{ range(9999999) | list | length }}",
    "{{ 'ab' | replace('', 'c' * 99999) | replace('', 'd' * 99999) }}",
    "{{ [3, 1, 2] | sort | batch(999999999, 0) | list }}",
    "{{ dict(a=messages) | urlencode }}",
    "{{ bos_token }}",
    "{{ 1 // 0 }}",
    "{{ 'é'.encode('ascii') }}",
)
_ENDS = re.compile("[%}]}")


def test_templates() -> None:
    source = str(read_header(embedded_files().target).values["tokenizer.chat_template"])
    counts = Counter[str]()
    with peak_memory(_PEAK_MEGABYTES):
        for seed in seeds(examples(40, 0.5)):
            with one_input(seed) as rng:
                counts[_render(_mutated(source, rng), tools=rng.random() < 0.5)] += 1
    print(dict(counts))
    assert counts["rendered"] and counts["refused"]


def _mutated(source: str, rng: Random) -> str:
    if rng.random() < 0.2:
        source = ""
    for _ in range(rng.randint(1, 3)):
        # Between statements, so that most of the templates compile.
        at = rng.choice([0, len(source), *(match.end() for match in _ENDS.finditer(source))])
        kind = rng.random()
        if kind < 0.7:
            source = source[:at] + rng.choice(_FRAGMENTS) + source[at:]
        elif kind < 0.85:
            source = source[:at] + source[at + rng.randint(1, 40) :]
        else:
            other = rng.randint(0, len(source))
            source = source[:at] + source[min(at, other) : max(at, other)] + source[at:]
    return source


def _render(source: str, *, tools: bool) -> str:
    try:
        template = ChatTemplate(source, bos="<bos>")
        text = template.render(_MESSAGES, think=False, tools=_TOOLS if tools else ())
    except LocalmtpError as error:
        assert error.message and "\n" not in error.message and len(error.message) < 4000
        return "refused"
    assert len(text) <= 1 << 24
    return "rendered"
