"""The settings of a conversation: each one is seen, set, and followed by the model's process."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from localmtp.engine.events import FinishReason
from localmtp.engine.pair import LoadOptions
from localmtp.engine.sampling.params import OnRepeat
from localmtp.session import Choices, OnFull
from localmtp.tui.app import ChatApp
from localmtp.tui.model_loading import local_opener
from localmtp.tui.screens.settings import SettingsScreen
from localmtp.tui.widgets.conversation import Conversation
from tests.parrot import parrot
from tests.tui.screen import answered, ready, seen, wait_until

OWN = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
OTHER = OWN + " {{ 'pondering' if enable_thinking }} macro format_parameters"


def prepared() -> tuple[Choices, LoadOptions]:
    return Choices(temperature=0.0, max_tokens=9), LoadOptions(threads=1, context=512)


@pytest.fixture(scope="module")
def repeating(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that ends its turn, unless words that it has said are preferred."""
    path = tmp_path_factory.mktemp("settings") / "repeating.gguf"
    return str(parrot(path, ["ka"], template=OWN, also={"ka": ["<turn|>"]}, ends=False))


def app(name: str) -> ChatApp:
    return ChatApp(name, local_opener(name, "none", True, prepared))


async def change(pilot: Pilot[None], chat: ChatApp, values: dict[str, str]) -> None:
    await pilot.press("f2")
    await wait_until(pilot, lambda: isinstance(chat.screen, SettingsScreen), "settings")
    for key, value in values.items():
        chat.screen.query_one(f"#{key}", Input).value = value
    await pilot.pause()
    await pilot.press("enter")


async def ask(pilot: Pilot[None], conversation: Conversation, text: str) -> None:
    session = conversation.session
    assert session
    before = len(session.messages)
    conversation.prompt.put(text)
    await pilot.press("enter")
    await answered(pilot, conversation, before + 2)


async def test_every_setting_is_applied_and_reaches_the_model(
    repeating: str, tmp_path: Path
) -> None:
    template = tmp_path / "other.jinja"
    template.write_text(OTHER)
    chat = app(repeating)
    async with chat.run_test(size=(80, 24)) as pilot:
        conversation = await ready(pilot, chat)
        session = conversation.session
        assert session
        await ask(pilot, conversation, "Hi")
        first = session.messages[-1]
        assert (first.text, first.finish) == ("ka", FinishReason.STOP)
        await change(
            pilot,
            chat,
            {
                **{"temp": "0.5", "top-k": "3", "top-p": "0.5", "min-p": "0.1", "seed": "7"},
                **{"max-tokens": "5", "draft": "2", "on-full": "drop", "repeat-penalty": "1.1"},
                **{"presence-penalty": "1", "frequency-penalty": "0.5", "dry": "0.8"},
                **{"on-repeat": "dry", "think": "on", "think-budget": "40"},
                **{"template": str(template), "system": "Brief"},
            },
        )
        await wait_until(pilot, lambda: session.settings.system == "Brief", "applied")
        settings, sampling = session.settings, session.settings.sampling
        assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.5, 3, 0.5)
        assert (sampling.min_p, sampling.seed, sampling.repeat_penalty) == (0.1, 7, 1.1)
        assert (sampling.presence_penalty, sampling.frequency_penalty) == (1, 0.5)
        assert (sampling.dry_multiplier, sampling.on_repeat) == (0.8, OnRepeat.DRY)
        assert (settings.max_tokens, settings.n_draft, settings.on_full) == (5, 2, OnFull.DROP)
        assert (settings.think, settings.think_budget) == (True, 40)
        assert settings.template == str(template)
        # The model's process: words that were said are preferred, in at most five tokens.
        values = {"temp": "0", "presence-penalty": "-2", "frequency-penalty": "0", "dry": "0"}
        await change(pilot, chat, values | {"repeat-penalty": "1"})
        await wait_until(pilot, lambda: session.settings.sampling.greedy, "applied")
        await ask(pilot, conversation, "Hi")
        last = session.messages[-1]
        assert (last.text, last.finish) == ("ka" * 5, FinishReason.LENGTH)
        assert "pondering macro" in session.prompt()
        longer = session.stats().prompt_tokens
        conversation.prompt.put("/set template own")
        await pilot.press("enter")
        await wait_until(pilot, lambda: not session.settings.template, "its own again")
        assert "pondering" not in session.prompt()
        await ask(pilot, conversation, "Hi")
        assert session.stats().prompt_tokens < longer
    chat.close()


async def test_the_template_is_seen_and_faults_are_lines(
    repeating: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    template, broken = tmp_path / "other.jinja", tmp_path / "broken.jinja"
    template.write_text(OTHER)
    broken.write_text("{% if")
    chat = app(repeating)
    async with chat.run_test(size=(80, 24)) as pilot:
        conversation = await ready(pilot, chat)
        session = conversation.session
        assert session
        await change(pilot, chat, {"template": str(broken)})
        await wait_until(
            pilot, lambda: "template" in str(chat.screen.query_one("#error").render()), "an error"
        )
        assert "own, or a Jinja file; in use: its own" in seen(chat)
        await pilot.press("escape")
        conversation.prompt.put("/set template oth")
        await wait_until(pilot, lambda: "other.jinja" in seen(chat), "it is listed")
        await pilot.press("tab")
        assert conversation.prompt.text == "/set template other.jinja"
        await pilot.press("enter")
        await wait_until(pilot, lambda: bool(session.settings.template), "applied")
        await wait_until(
            pilot, lambda: "template other.jinja, from the next message" in seen(chat), "a notice"
        )
        template.unlink()
        conversation.prompt.put("Hi")
        await pilot.press("enter")
        await wait_until(pilot, lambda: "cannot read" in seen(chat), "an error")
        assert not session.messages
        conversation.prompt.discard()
        conversation.prompt.put("/set template own")
        await pilot.press("enter")
        await ask(pilot, conversation, "Hi")
    chat.close()
