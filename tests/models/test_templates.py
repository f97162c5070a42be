"""Chat templates: another one than the file's, editions, and markers declared ordinary tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localmtp.engine.text.template_editions import edition, is_outdated, template_name
from localmtp.models.embedded import embedded_files
from tests.models.conftest import Program
from tests.models.gguf_edit import ARRAY, STRING, edited, strings

OFFICIAL = (
    "{%- macro format_parameters(p) -%}{%- endmacro -%}"
    "{%- macro strip_thinking(t) -%}{%- endmacro -%}"
    "{{ bos_token }}{% for m in messages %}<|turn>{{ m.role }}\n"
    "{{ m.content }}<turn|>\n{% endfor %}"
    "<|turn>model\n{% if tools %}<|tool_call>{% endif %}"
)
CURRENT = "{#\n  Published: 2026-07-09\n#}\n" + OFFICIAL
INT32 = 5
ASK = ("Count from 1 to 9.", "--temp", "0", "--max-tokens", "30", "--threads", "1", "--json")


def answer(program: Program, model: Path | str, *flags: str) -> str:
    done = program("run", str(model), *ASK, *flags)
    assert done.returncode == 0, done.stderr
    text: str = json.loads(done.stdout)["text"]
    return text


def test_editions() -> None:
    assert is_outdated(OFFICIAL) and not is_outdated(CURRENT)
    assert edition(CURRENT) == "2026-07-09"
    assert not is_outdated(CURRENT.replace("2026-07-09", "2027-01-01"))
    assert is_outdated(CURRENT.replace("2026-07-09", "2026-04-02"))
    assert not is_outdated("{{ messages }}")
    assert template_name("") == "none"
    assert template_name("{{ messages }}") == "its own"


def test_an_outdated_template_is_named_and_can_be_replaced(
    program: Program, tmp_path: Path
) -> None:
    model = edited(tmp_path / "old.gguf", {"tokenizer.chat_template": (STRING, OFFICIAL.encode())})
    shown = program("show", str(model))
    assert "Gemma 4, before 2026-07-09" in shown.stdout
    done = program("run", str(model), "hi", "--max-tokens", "2", "--threads", "1")
    assert done.returncode == 0 and "--chat-template" in done.stderr
    newer = tmp_path / "new.jinja"
    newer.write_text(CURRENT)
    flags = ("--chat-template", str(newer))
    done = program("run", str(model), "hi", "--max-tokens", "2", "--threads", "1", *flags)
    assert done.returncode == 0 and "chat template" not in done.stderr


def test_the_template_of_a_file_replaces_that_of_the_model(
    program: Program, tmp_path: Path
) -> None:
    template = tmp_path / "always.jinja"
    template.write_text(
        "{{ bos_token }}{% if messages %}<|turn>user\n"
        "Count from 1 to 4.<turn|>\n{% endif %}<|turn>model\n"
    )
    assert answer(program, "nano", "--chat-template", str(template)) != answer(program, "nano")


@pytest.mark.parametrize("content", [b"", b"{% if %}", b"\xff\xfe", b"no conversation in it"])
def test_a_file_that_is_no_template_is_one_line(
    program: Program, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "bad.jinja"
    path.write_bytes(content)
    done = program("run", "nano", "hi", "--chat-template", str(path))
    assert done.returncode == 1
    assert "bad.jinja" in done.stderr and "Traceback" not in done.stderr


def test_markers_of_turns_that_are_declared_ordinary_tokens(
    program: Program, tmp_path: Path
) -> None:
    tokens = strings(embedded_files().target, "tokenizer.ggml.tokens")
    kinds = [1 if t in (b"<|turn>", b"<turn|>") else 0 for t in tokens]
    kinds = [kind or original for kind, original in zip(kinds, types(), strict=True)]
    changes = {"tokenizer.ggml.token_type": (ARRAY, (INT32, kinds))}
    model = edited(tmp_path / "ordinary.gguf", changes)
    assert answer(program, model, "--drafter", "none") == answer(program, "nano")


def types() -> list[int]:
    from gguf import GGUFReader

    field = GGUFReader(str(embedded_files().target)).fields["tokenizer.ggml.token_type"]
    return [int(kind) for kind in field.contents()]


def test_a_projector_in_the_file_of_the_model_is_one_line(program: Program, tmp_path: Path) -> None:
    data = embedded_files().target.read_bytes()
    model = tmp_path / "one-file.gguf"
    model.write_bytes(data.replace(b"blk.0.attn_norm.weight", b"v.blk0.attn_nrm.weight"))
    done = program("run", str(model), "hi")
    assert done.returncode == 1
    assert "Ollama" in done.stderr and "Traceback" not in done.stderr
