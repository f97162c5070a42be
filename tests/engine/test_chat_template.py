"""Chat templates come with files from strangers."""

import pytest

from localmtp.engine.text.chat_template import ChatTemplate
from localmtp.errors import LocalmtpError


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 10000000000 }}",
        "{{ [1] * 10000000000 }}",
        "{{ 9 ** 9999999 }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        "{{ messages.__class__.__mro__ }}",
        "{{ range(99999999999) }}",
    ],
)
def test_hostile_templates_are_refused(source: str) -> None:
    template = ChatTemplate(source, bos="<bos>")
    with pytest.raises(LocalmtpError, match="refuses the conversation"):
        template.render([{"role": "user", "content": "Hi"}], think=False)


def test_what_templates_need_works_every_time() -> None:
    source = (
        "{{ bos_token }}{% for i in range(messages|length) %}{{ '-' * 3 }}{{ i * 2 }}{% endfor %}"
    )
    template = ChatTemplate(source, bos="<bos>")
    for _ in range(3):
        assert template.render([{"role": "user"}] * 2, think=False) == "<bos>---0---2"
