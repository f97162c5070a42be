"""Names pasted from the hub."""

import pytest

from localmtp.errors import LocalmtpError
from localmtp.models import resolve
from localmtp.models.naming.hub_address import hub_name


@pytest.mark.parametrize(
    ("pasted", "name"),
    [
        ("hf.co/someone/gemma-GGUF:Q8_0", "someone/gemma-GGUF:Q8_0"),
        ("https://huggingface.co/someone/gemma-GGUF", "someone/gemma-GGUF"),
        ("huggingface.co/someone/gemma-GGUF/tree/main/", "someone/gemma-GGUF"),
        ("https://huggingface.co/a/b/resolve/main/gemma-Q8_0.gguf", "a/b:Q8_0"),
        ("https://huggingface.co/a/b/blob/main/x/g-Q4_K_M-00001-of-00002.gguf?d=1", "a/b:Q4_K_M"),
        ("someone/gemma-GGUF:Q8_0", "someone/gemma-GGUF:Q8_0"),
        ("./hf.co/a/b.gguf", "./hf.co/a/b.gguf"),
        ("https://example.com/hf.co/a/b", "https://example.com/hf.co/a/b"),
    ],
)
def test_addresses_become_names(pasted: str, name: str) -> None:
    assert hub_name(pasted) == name


def test_an_address_is_resolved_as_its_repository() -> None:
    with pytest.raises(LocalmtpError, match=r"^someone/none:Q8_0 "):
        resolve("hf.co/someone/none:Q8_0", offline=True)


@pytest.mark.parametrize(
    ("typed", "suggested"), [("gemma4-e4", "gemma4-e4b"), ("gemma4-26", "gemma4-26b-a4b")]
)
def test_only_similar_names_are_suggested(typed: str, suggested: str) -> None:
    with pytest.raises(LocalmtpError) as error:
        resolve(typed, offline=True)
    assert error.value.hint == f"did you mean `{suggested}`?"
