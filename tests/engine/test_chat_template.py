"""Chat templates come with files from strangers: limits on what they may do."""

import pytest

from localmtp.engine.text.chat_template import ChatTemplate
from localmtp.engine.text.quoting import unquote
from localmtp.errors import LocalmtpError

_TIMES_60 = "{% set ns = namespace(x='aaaa', y=['a']) %}{% for i in range(60) %}"

HOSTILE = {
    "loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
    "a range": "{{ range(99999999999) }}",
    "repeated text": "{{ 'x' * 10000000000 }}",
    "a repeated list": "{{ [1] * 10000000000 }}",
    "recursion": "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
    "a method": "{{ 'x'.ljust(900000000) | length }}",
    "a method by name": "{{ ('x' | attr('zfill'))(900000000) | length }}",
    "a width": "{{ '{:900000000}'.format(1) }}{{ '%900000000d' % 1 }}",
    "a filter": "{{ ['x'] | map('center', 900000000) | list | length }}",
    "indented JSON": "{{ [[1]] | tojson(indent=900000000) }}",
    "doubled text": _TIMES_60 + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x | length }}",
    "a doubled sum": _TIMES_60 + "{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x | length }}",
    "a doubled block": _TIMES_60
    + "{% set z %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = z %}{% endfor %}",
    "constants": "{{ 'x'" + " | replace('x', 'xxxxxxxxxx')" * 9 + " | length }}",
    "a list of words": "{{ ('a ' * 50000000).split() | length }}",
    "a list of letters": "{{ ('a ' * 50000000) | list | length }}{{ 'x' * -900000000 }}",
    "attributes": "{{ messages.__class__.__mro__ }}",
    "files": "{% include '/etc/hostname' %}",
}
NESTED = _TIMES_60 + "{% set ns.y = [ns.y, ns.y] %}{% endfor %}"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates_end(name: str) -> None:
    template = ChatTemplate(HOSTILE[name], bos="<bos>")
    with pytest.raises(LocalmtpError, match=r"chat template (rejects|takes more than)") as caught:
        template.render([{"role": "user", "content": "Hi"}], think=False)
    assert "\n" not in caught.value.message


def test_lists_that_repeat_themselves_are_not_written_out() -> None:
    with pytest.raises(LocalmtpError, match="chat template takes more than"):
        ChatTemplate(NESTED + "{{ ns.y | tojson | length }}", bos="").render([], think=False)


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
        "".join(f"{{% for a{i} in [1] %}}" for i in range(25)) + "x" + "{% endfor %}" * 25,
        "{{ " + "9" * 5000 + " }}",
        "{% if %}",
        "{{ 1 | nothing }}",
        " " * 300_000,
    ],
)
def test_broken_templates_are_one_line(source: str) -> None:
    with pytest.raises(LocalmtpError, match="chat template is broken"):
        ChatTemplate(source, bos="")


def test_the_reason_of_a_refusal_is_one_bounded_line() -> None:
    template = ChatTemplate("{{ raise_exception(messages[0].content) }}", bos="")
    with pytest.raises(LocalmtpError) as caught:
        template.render([{"role": "user", "content": "<no>\n" * 100_000}], think=False)
    assert "rejects the conversation: <no> <no>" in caught.value.message
    assert len(caught.value.message) < 400


def test_a_template_beyond_the_guard_is_rendered_in_a_process() -> None:
    source = "{{ bos_token }}{{ '%5d|' % 3 }}{{ messages[0].content | center(8) }}"
    template = ChatTemplate(source, bos="<bos>")
    text = template.render([{"role": "user", "content": "<é😀>"}], think=False)
    assert unquote(text) == "<bos>    3|  <é😀>  "
    assert "<é" not in text


def test_what_templates_need_works_every_time() -> None:
    source = (
        "{{ bos_token }}{% for i in range(messages|length) %}{{ '-' * 3 }}{{ i * 2 }}{% endfor %}"
    )
    template = ChatTemplate(source, bos="<bos>")
    for _ in range(3):
        assert template.render([{"role": "user"}] * 2, think=False) == "<bos>---0---2"
