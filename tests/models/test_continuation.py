"""The recipe's conversations that continue files of a folder."""

from pathlib import Path
from random import Random

import pytest

from localmtp.models.recipe.continuation import Continuations


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(80):
        lines = [f"file_{number} = {line}  # line {line}\n" for line in range(300)]
        (tmp_path / f"{number:02}.py").write_text("".join(lines), "utf-8")
    return tmp_path


def test_held_out_files_are_never_drawn(folder: Path) -> None:
    text, rng = Continuations(folder), Random(1)
    prompts = text.held_out()["continue"]
    withheld = {prompt.split(" ")[0] for prompt in prompts}
    drawn = {text.draw(rng)[1].text.split(" ")[0] for _ in range(400)}
    assert len(withheld) == 2
    assert len(drawn) > 60
    assert not drawn & withheld


def test_an_answer_continues_where_the_question_ends(folder: Path) -> None:
    question, answer = Continuations(folder).draw(Random(2))
    assert answer.learned and not question.learned
    last = question.text.removesuffix("<turn|>\n<|turn>model\n").splitlines()[-1]
    name, number = last.split(" = ")[0], int(last.split(" ")[2])
    assert answer.text.startswith(f"{name} = {number + 1} ")


def test_a_folder_without_enough_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has 0 files \*\.py"):
        Continuations(tmp_path)
