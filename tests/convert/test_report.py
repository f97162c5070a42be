"""`--report`, on models whose results can be computed independently."""

from __future__ import annotations

import json
import math
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from localmtp.bench.lab.convert.qwen_checkpoints import write_qwen
from localmtp.convert import Options, convert
from localmtp.convert.quality.acceptance import score_drafter
from localmtp.convert.quality.report import TargetScore, read_report
from localmtp.engine.llama import Batch, Context, Model, Offload
from localmtp.errors import LocalmtpError
from tests.convert.checkpoints import VOCAB, write_checkpoint
from tests.convert.test_command import localmtp

WORDS = "the boat came back at noon and nobody knew where it had been. "


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(WORDS * 12)
    return path


def test_target_scores_match_their_definitions(tmp_path: Path, text: Path) -> None:
    source = write_checkpoint(tmp_path / "tiny", "31B")
    options = Options(quants=["Q4_0", "F32"], report_text=text, report=True, threads=1)
    quantized, full = convert(source, tmp_path, options=options)
    assert isinstance(quantized.score, TargetScore) and isinstance(full.score, TargetScore)
    assert (full.score.kl_divergence, full.score.top1_agreement) == (None, None)
    expected, followed = predictions(full.path, text)
    found, _ = predictions(quantized.path, text)
    rows = np.arange(len(followed))
    assert full.score.perplexity == pytest.approx(math.exp(-expected[rows, followed].mean()), 1e-4)
    assert quantized.score.perplexity == pytest.approx(
        math.exp(-found[rows, followed].mean()), 1e-4
    )
    divergence = (np.exp(expected) * (expected - found)).sum(axis=1).mean()
    assert quantized.score.kl_divergence == pytest.approx(divergence, 1e-3)
    agreement = (expected.argmax(axis=1) == found.argmax(axis=1)).mean()
    assert quantized.score.top1_agreement == pytest.approx(agreement)
    report = read_report(tmp_path / "tiny.report.json")
    assert (report.reference, report.positions) == ("tiny-F32.gguf", len(followed))
    assert report.targets == [full.score, quantized.score]


def predictions(path: Path, text: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Log-probabilities [rows, n_vocab] in float64, for the second half of the only passage."""
    with Model(path, offload=Offload(0)) as model:
        tokens = [
            model.vocab.bos,
            *model.vocab.tokenize(text.read_text(encoding="utf-8"), special=False)[:511],
        ]
        with (
            Context(model, n_ctx=512, n_batch=1, n_outputs=1, threads=1) as context,
            Batch(1) as batch,
        ):
            logits = np.empty((len(tokens), VOCAB))
            for position, token in enumerate(tokens):
                batch.fill([token], position, all_logits=True)
                context.decode(batch)
                logits[position] = context.logits()[0]
    assert len(tokens) == 512
    found = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return found[256:-1], np.array(tokens[257:])


def test_drafters_are_measured_on_the_most_precise_target(tmp_path: Path, text: Path) -> None:
    target = write_checkpoint(tmp_path / "tiny-it", "E2B")
    drafter = write_checkpoint(tmp_path / "tiny-it-assistant", "E2B-assistant")
    flags = ["--quant", "Q8_0", "--drafter-quant", "F16", "--drafter-quant", "Q4_0"]
    out = tmp_path / "out"
    command: list[str | Path] = [
        "convert",
        target,
        drafter,
        "--out",
        out,
        *flags,
        "--report-text",
        text,
    ]
    done = localmtp(*command, "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert "draft 6" in done.stdout
    report = json.loads((out / "tiny-it.report.json").read_text())
    assert [score["file"] for score in report["drafters"]] == [
        "mtp-tiny-it-F16.gguf",
        "mtp-tiny-it-Q4_0.gguf",
    ]
    for score in report["drafters"]:
        assert len(score["acceptance_by_position"]) == 6
        assert 1 <= score["tokens_per_pass"] <= 7
    again = localmtp(*command)
    assert again.returncode == 1
    assert " exists" in again.stderr


@pytest.mark.parametrize("apart", [False, True], ids=["in the file", "apart"])
def test_mtp_heads_are_measured(tmp_path: Path, text: Path, apart: bool) -> None:
    source, out = write_qwen(tmp_path / "tiny", "9B"), tmp_path / "out"
    flags = ["--quant", "F16", "--quant", "Q8_0", "--report-text", str(text), "--threads", "1"]
    flags += ["--no-mtp", "--mtp"] if apart else []
    done = localmtp("convert", source, "--out", out, *flags)
    assert done.returncode == 0, done.stderr
    assert "draft 1" in done.stdout and "tokens/pass" in done.stdout
    report = read_report(out / "tiny.report.json")
    names = ["tiny-F16.gguf", "tiny-Q8_0.gguf"]
    assert [score.file for score in report.targets] == names
    assert [score.file for score in report.drafters] == (["mtp-tiny-Q8_0.gguf"] if apart else names)
    for score in report.drafters:
        assert 2 <= len(score.acceptance_by_position) <= 6
        assert score.file in done.stdout


def test_acceptance_of_the_embedded_drafter_falls_with_draft_position() -> None:
    nano = Path(str(files("localmtp.models"))) / "nano"
    text = ", ".join(map(str, range(1, 700)))
    drafter = nano / "mtp-nano-Q8_0.gguf", "Q8_0"
    score = score_drafter(drafter, nano / "nano-Q8_0.gguf", text, 1, lambda *_: None)
    first, *_, last = score.acceptance_by_position
    assert first > 0.3 > last
    # The answer is short: its end, which drafts reach, counts as a token.
    assert score.tokens_per_pass == pytest.approx(1 + sum(score.acceptance_by_position))


def test_a_report_that_cannot_be_made_is_refused_before_writing(tmp_path: Path, text: Path) -> None:
    drafter = write_checkpoint(tmp_path / "tiny-assistant", "E2B-assistant")
    with pytest.raises(
        LocalmtpError, match="is a drafter, which can only be measured on its target"
    ):
        convert(drafter, tmp_path / "out", options=Options(report=True))
    source = write_checkpoint(tmp_path / "tiny", "31B")
    with pytest.raises(LocalmtpError, match=r"cannot read .*missing\.txt"):
        missing = tmp_path / "missing.txt"
        convert(source, tmp_path / "out", options=Options(report=True, report_text=missing))
    assert not (tmp_path / "out").exists()
    text.write_text("too short", encoding="utf-8")
    with pytest.raises(LocalmtpError, match="at least 64 are needed"):
        convert(source, tmp_path / "out", options=Options(report=True, report_text=text))


def test_a_malformed_report_is_refused(tmp_path: Path) -> None:
    deep = "[" * 100_000
    typed = '{"text": "", "positions": 1, "reference": "", "drafters": [], "targets": [%s]}'
    score = '{"file": "", "quant": "", "perplexity": "x", "kl_divergence": 0, "top1_agreement": 0}'
    for content in ("[]", "{}", '{"targets": 1, "drafters": []}', "no", deep, typed % score):
        (tmp_path / "x.report.json").write_text(content)
        with pytest.raises(LocalmtpError, match="is not a report"):
            read_report(tmp_path / "x.report.json")
