"""Images and sound in the chat: attaching, dropping, pasting, previews, history, export."""

from __future__ import annotations

import json
import os
import re
import sys
from functools import partial
from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot

from localmtp.media import Media
from localmtp.tui.app import ChatApp
from localmtp.tui.commands.export import conversation_files
from localmtp.tui.media.dropped_paths import dropped_paths, typed_path
from localmtp.tui.model_loading import local_opener
from localmtp.tui.screens.race import RaceScreen
from localmtp.tui.widgets.conversation import Conversation
from tests.heads import write_qwen35
from tests.media.samples import hollow_png, png, sound, tone
from tests.towers import write_towers
from tests.tui.frozen import FrozenSession
from tests.tui.screen import answered, drafting, prepared, ready, seen, wait_until

SIZE = (100, 40)


def frozen(history: Path | None = None, previews: Path | None = None) -> ChatApp:
    return ChatApp(
        "nano",
        lambda name, report: FrozenSession("An answer."),
        history=history,
        previews_file=previews,
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_bytes(png())
    (tmp_path / "my photo's copy.png").write_bytes(png(32, 32))
    (tmp_path / "voice.wav").write_bytes(sound(tone(2.5)))
    (tmp_path / "notes.txt").write_text("only text")
    return tmp_path


async def paste(pilot: Pilot[None], text: str) -> None:
    """Pastes as a terminal does."""
    pilot.app.post_message(events.Paste(text))
    await pilot.pause()


async def attached(pilot: Pilot[None], conversation: Conversation, *names: str) -> None:
    def is_attached() -> bool:
        tray = conversation.tray
        return not tray.is_reading and [one.media.name for one in tray.attachments] == [*names]

    await wait_until(pilot, is_attached, f"{names} are attached")


def command(name: str) -> str:
    return "audio" if name.endswith(".wav") else "image"


def prompted(conversation: Conversation, text: str) -> bool:
    return conversation.prompt.text == text


def shown(app: ChatApp, text: str) -> bool:
    return text in seen(app)


def sent(conversation: Conversation, index: int = 0) -> list[str]:
    assert conversation.session
    return [media.name for media in conversation.session.messages[index].media]


async def test_an_image_and_a_sound_are_attached_listed_and_sent(folder: Path) -> None:
    app = frozen()
    async with app.run_test(size=SIZE) as pilot:
        conversation = await ready(pilot, app)
        await pilot.press(*"/image photo.png", "enter")
        await attached(pilot, conversation, "photo.png")
        assert "photo.png · 64 × 48 · " in seen(app)
        assert "▀" in seen(app)
        await pilot.press(*"/audio voice.wav", "enter")
        await attached(pilot, conversation, "photo.png", "voice.wav")
        assert "voice.wav · 2.5 s · 80.0 kB" in seen(app)
        await pilot.press(*"What is it?", "enter")
        await answered(pilot, conversation)
        assert sent(conversation) == ["photo.png", "voice.wav"]
        assert conversation.tray.attachments == []
        assert "photo.png · 64 × 48" in seen(app)


@pytest.mark.parametrize("family", ["gemma", "qwen"])
async def test_a_model_answers_about_a_picture_with_its_tokens_counted(
    folder: Path, family: str
) -> None:
    name, projector = "nano", folder / "mmproj-nano.gguf"
    if family == "qwen":
        name = str(folder / "tiny.gguf")
        write_qwen35(folder / "tiny.gguf", media=True)
        write_towers(projector, "qwen", width=64)
    else:
        write_towers(projector)
    open_it = local_opener(name, None, True, drafting, str(projector))
    app = ChatApp(name, open_it, history=folder / "history.sqlite3")
    async with app.run_test(size=SIZE) as pilot:
        conversation = await ready(pilot, app)
        await pilot.press(*"/image photo.png", "enter")
        await wait_until(pilot, partial(shown, app, " tokens"), "its tokens are counted")
        (attachment,) = conversation.tray.attachments
        await pilot.press(*"What is it?", "enter")
        await answered(pilot, conversation)
        assert conversation.session
        stats = conversation.session.stats()
        assert attachment.tokens
        assert stats.prompt_tokens > attachment.tokens
        assert stats.drafted
        await wait_until(pilot, partial(shown, app, "of that, encoding"), "the time is shown")
        assert re.search(r"cache\s+[0-9]+ MB", seen(app))  # not wrapped
        await pilot.press("ctrl+r")
        await wait_until(pilot, lambda: conversation.answer is None, "it is answered again")
        assert sent(conversation) == ["photo.png"]
    app.close()


async def test_a_race_answers_about_a_picture(folder: Path) -> None:
    projector = write_towers(folder / "mmproj-nano.gguf")
    app = ChatApp("nano", local_opener("nano", None, True, drafting, str(projector)))
    async with app.run_test(size=SIZE) as pilot:
        conversation = await ready(pilot, app)
        await pilot.press(*"/image photo.png", "enter")
        await attached(pilot, conversation, "photo.png")
        await pilot.press(*"/race What is it?", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, RaceScreen), "the race")
        race = app.screen
        assert isinstance(race, RaceScreen)
        await wait_until(pilot, lambda: race.is_over, "it is over")
        assert "photo.png · 64 × 48" in seen(app) and "too short" in seen(app)
        assert all(run.stats and run.stats.media == 1 for run in race.race.runs)
        assert race.race.runs[-1].stats and not race.race.runs[-1].stats.encoded_tokens
        await pilot.press("escape")
        await attached(pilot, conversation, "photo.png")
    app.close()


async def test_a_command_refuses_the_other_kind(folder: Path) -> None:
    app = frozen()
    async with app.run_test(size=SIZE) as pilot:
        conversation = await ready(pilot, app)
        await pilot.press(*"/audio photo.png", "enter")
        await wait_until(pilot, partial(shown, app, "photo.png is no audio file"), "an error")
        assert "use `/image photo.png`" in seen(app)
        await pilot.press(*"/image voice.wav", "enter")
        await wait_until(pilot, partial(shown, app, "use `/audio voice.wav`"), "an error")
        assert not conversation.tray.attachments


async def test_attachments_that_were_not_sent_are_restored(folder: Path) -> None:
    """With the text of the prompt, and also those of a queued message; the file may be gone."""
    history = folder / "history.sqlite3"
    app = frozen(history)
    async with app.run_test(size=SIZE) as pilot:
        conversation = await ready(pilot, app)
        await wait_until(pilot, lambda: conversation.saver.history is not None, "the history")
        conversation.lend_session()
        await pilot.press(*"/image photo.png", "enter")
        await attached(pilot, conversation, "photo.png")
        await pilot.press(*"First", "enter")
        await wait_until(pilot, lambda: conversation.queued == 1, "it is queued")
        await pilot.press(*"/audio voice.wav", "enter")
        await attached(pilot, conversation, "voice.wav")
        await pilot.press(*"Second")
        await pilot.press("ctrl+q")
    app.close()
    (folder / "photo.png").unlink()
    app = frozen(history)
    async with app.run_test(size=SIZE) as pilot:
        conversation = await ready(pilot, app)
        await attached(pilot, conversation, "photo.png", "voice.wav")
        assert conversation.prompt.text == "First\nSecond"
        assert "photo.png · 64 × 48" in seen(app)
        await pilot.press("enter")
        await answered(pilot, conversation)
        assert sent(conversation) == ["photo.png", "voice.wav"]
    app.close()
    app = frozen(history)
    async with app.run_test(size=SIZE) as pilot:
        conversation = await ready(pilot, app)
        await wait_until(pilot, lambda: conversation.saver.history is not None, "the history")
        assert not conversation.tray.attachments
    app.close()


async def test_a_model_that_reads_no_images_says_so_before_and_after_sending(
    folder: Path,
) -> None:
    app = ChatApp("nano", local_opener("nano", None, True, prepared, "none"))
    async with app.run_test(size=SIZE) as pilot:
        conversation = await ready(pilot, app)
        await pilot.press(*"/image photo.png", "enter")
        await wait_until(pilot, partial(shown, app, "cannot be read by this model"), "it is marked")
        await wait_until(pilot, partial(shown, app, "need a projector"), "it is said before")
        await pilot.press(*"What is it?", "enter")
        await attached(pilot, conversation, "photo.png")
        await wait_until(pilot, partial(prompted, conversation, "What is it?"), "it returns")
        assert "✕" in seen(app)
    app.close()


async def test_attachments_are_removed_before_sending(folder: Path) -> None:
    app = frozen()
    async with app.run_test(size=SIZE) as pilot:
        conversation = await ready(pilot, app)
        for name in ("photo.png", "voice.wav", "photo.png"):
            await pilot.press(*f"/{command(name)} {name}", "enter")
        await attached(pilot, conversation, "photo.png", "voice.wav", "photo.png")
        await pilot.press("backspace")
        await attached(pilot, conversation, "photo.png", "voice.wav")
        await pilot.press(*"/detach 1", "enter")
        await attached(pilot, conversation, "voice.wav")
        await pilot.press(*"/detach 2", "enter")
        await wait_until(pilot, lambda: "no such attachment" in seen(app), "it is refused")
        await pilot.press(*"text", "escape")
        await attached(pilot, conversation)
        await pilot.press("enter")
        assert conversation.session
        assert conversation.session.messages == []


@pytest.mark.parametrize(
    "form",
    [
        "{path}",
        "{path} ",
        "'{folder}/my photo'\\''s copy.png' ",
        "{folder}/my\\ photo\\'s\\ copy.png ",
        "file://{folder}/my%20photo%27s%20copy.png",
        '"{path}"\r\n',
    ],
)
async def test_a_dropped_file_is_attached(folder: Path, form: str) -> None:
    path = folder / "my photo's copy.png"
    app = frozen()
    async with app.run_test(size=SIZE) as pilot:
        conversation = await ready(pilot, app)
        await paste(pilot, form.format(path=path, folder=folder))
        await attached(pilot, conversation, path.name)
        assert conversation.prompt.text == ""


async def test_several_files_are_dropped_together(folder: Path) -> None:
    app = frozen()
    async with app.run_test(size=SIZE) as pilot:
        conversation = await ready(pilot, app)
        await paste(pilot, f"{folder}/photo.png '{folder}/voice.wav'")
        await attached(pilot, conversation, "photo.png", "voice.wav")
        await paste(pilot, f"file://{folder}/photo.png\r\nfile://{folder}/voice.wav\r\n")
        await attached(pilot, conversation, *["photo.png", "voice.wav"] * 2)


async def test_other_pasted_text_stays_text(folder: Path) -> None:
    app = frozen()
    async with app.run_test(size=SIZE) as pilot:
        conversation = await ready(pilot, app)
        for text in (
            f"{folder}/notes.txt",
            f"{folder}/missing.png",
            f"see {folder}/photo.png",
            "photo.png",
            f"{folder}/photo.png and more",
            "/etc is a folder",
        ):
            await paste(pilot, text)
            await wait_until(pilot, partial(prompted, conversation, text), f"{text} is text")
            assert conversation.tray.attachments == []
            conversation.prompt.clear()


async def test_a_message_that_begins_with_a_path_is_no_command(folder: Path) -> None:
    app = frozen()
    async with app.run_test(size=SIZE) as pilot:
        conversation = await ready(pilot, app)
        for number, (text, message) in enumerate(
            (
                (f"{folder}/notes.txt", f"{folder}/notes.txt"),
                ("/etc/hosts is a file", "/etc/hosts is a file"),
                ("//help me", "/help me"),
            ),
            1,
        ):
            conversation.prompt.put(text)
            conversation.prompt.submit()
            await answered(pilot, conversation, 2 * number)
            assert conversation.session
            assert conversation.session.messages[-2].text == message


async def test_files_that_cannot_be_attached_are_one_line_each(folder: Path) -> None:
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("only text")
    (folder / "cut.png").write_bytes(png()[:90])
    (folder / "bomb.png").write_bytes(hollow_png(10_000, 10_000))
    (folder / "link.png").symlink_to(folder / "photo.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    expected = {
        "empty.png": "empty.png is empty",
        "text.png": "text.png is no image and no sound",
        "cut.png": "cannot decode cut.png: damaged or truncated PNG",
        "bomb.png": "bomb.png has 100 megapixels, and 64 can",
        "loop.png": "cannot read loop.png",
        ".": "is not a regular file",
        "missing.png": "cannot read missing.png: No such file",
    }
    if sys.platform != "win32":
        os.mkfifo(folder / "pipe.png")
        expected |= {name: f"{name} is not a regular file" for name in ("pipe.png", "/dev/zero")}
    app = frozen()
    async with app.run_test(size=(120, 60)) as pilot:
        conversation = await ready(pilot, app)
        for name, line in expected.items():
            await pilot.press(*f"/{command(name)} {name}", "enter")
            await wait_until(pilot, partial(shown, app, line), line)
            await attached(pilot, conversation)
        for name in ("empty.png", "text.png"):
            await paste(pilot, f"{folder}/{name}")
            await wait_until(pilot, lambda: bool(conversation.prompt.text), "it stays text")
            conversation.prompt.clear()
        await pilot.press(*"/image link.png", "enter")
        await attached(pilot, conversation, "link.png")
        await pilot.press(*"still there?", "enter")
        await answered(pilot, conversation)
        assert sent(conversation) == ["link.png"]


async def test_enter_waits_until_what_was_dropped_is_read(folder: Path) -> None:
    app = frozen()
    async with app.run_test(size=SIZE) as pilot:
        conversation = await ready(pilot, app)
        conversation.prompt.put("What is it?")
        conversation.tray.attach(folder / "photo.png")
        conversation.prompt.submit()
        await answered(pilot, conversation)
        assert sent(conversation) == ["photo.png"]
        conversation.prompt.put("And this?")
        (folder / "cut.png").write_bytes(hollow_png(7_000, 7_000)[:-2_000])
        conversation.tray.attach(folder / "cut.png")
        conversation.prompt.submit()
        await wait_until(pilot, lambda: "cannot decode" in seen(app), "it fails")
        assert conversation.prompt.text == "And this?"


async def test_queued_and_edited_messages_return_with_their_attachments(folder: Path) -> None:
    session = FrozenSession("An answer.", holds=True)
    app = ChatApp("nano", lambda name, report: session)
    async with app.run_test(size=SIZE) as pilot:
        conversation = await ready(pilot, app)
        for name in ("photo.png", "voice.wav"):
            await pilot.press(*f"/{command(name)} {name}", "enter")
            await attached(pilot, conversation, name)
            await pilot.press(*f"About {name}", "enter")
        await wait_until(pilot, lambda: conversation.queued == 1, "the second one is queued")
        await pilot.press("up")
        await attached(pilot, conversation, "voice.wav")
        assert conversation.prompt.text == "About voice.wav"
        await pilot.press("escape")
        await answered(pilot, conversation)
        await pilot.press("escape", *"/edit", "enter")
        await attached(pilot, conversation, "photo.png")
        conversation.prompt.put("Once more")
        conversation.prompt.submit()
        await wait_until(
            pilot, lambda: [m.text for m in session.messages[:1]] == ["Once more"], "it branches"
        )
        assert sent(conversation) == ["photo.png"]
        conversation.stop()
        await answered(pilot, conversation)


async def test_completed_images_are_attached(folder: Path) -> None:
    app = frozen()
    async with app.run_test(size=SIZE) as pilot:
        conversation = await ready(pilot, app)
        await pilot.press(*"/audio vo")
        await wait_until(pilot, partial(shown, app, "voice.wav"), "it is listed")
        assert "notes.txt" not in seen(app)
        await pilot.press("tab")
        assert conversation.prompt.text == "/audio voice.wav"
        await pilot.press("escape", *"Look at @pho")
        await wait_until(pilot, lambda: "@photo.png" in seen(app), "it is listed")
        await pilot.press("tab")
        await attached(pilot, conversation, "photo.png")
        await pilot.press("enter")
        await answered(pilot, conversation)
        assert conversation.session
        assert conversation.session.messages[0].text == "Look at @photo.png"
        assert sent(conversation) == ["photo.png"]


async def test_media_are_saved_restored_and_exported(folder: Path) -> None:
    history = folder / "history.sqlite3"
    app = frozen(history)
    async with app.run_test(size=SIZE) as pilot:
        conversation = await ready(pilot, app)
        for name in ("photo.png", "voice.wav"):
            await pilot.press(*f"/{command(name)} {name}", "enter")
        await attached(pilot, conversation, "photo.png", "voice.wav")
        await pilot.press(*"What is it?", "enter")
        await answered(pilot, conversation)
    app.close()
    (folder / "photo.png").unlink()
    app = frozen(history)
    async with app.run_test(size=SIZE) as pilot:
        conversation = await ready(pilot, app)
        await pilot.press("ctrl+l")
        await wait_until(pilot, lambda: "What is it?" in seen(app), "it is listed")
        await pilot.press("enter")
        await wait_until(pilot, lambda: "photo.png · 64 × 48" in seen(app), "it is restored")
        assert "▀" in seen(app)
        assert sent(conversation) == ["photo.png", "voice.wav"]
        for name in ("saved.md", "saved.json"):
            await pilot.press(*f"/export {name}", "enter")
            await wait_until(pilot, partial(shown, app, f"{name} and"), "it is written")
    app.close()
    image = folder / "saved-media" / "01-photo.png"
    assert image.read_bytes() == png()
    text = (folder / "saved.md").read_text()
    assert "## You\n\n![photo.png](saved-media/01-photo.png)\n\n[voice.wav](saved" in text
    (question, _) = json.loads((folder / "saved.json").read_text())["messages"]
    assert question["media"][0]["file"] == "saved-media/01-photo.png"
    assert question["media"][1]["kind"] == "audio"


def test_names_of_media_never_leave_the_folder_of_an_export(tmp_path: Path) -> None:
    from localmtp.session import Message, Role

    names = ["../../x.png", "/etc/passwd", "CON", "", "a\nb](http://x)", "ü 1.png", "x" * 300]
    media = [Media("image", png(8, n + 1), name) for n, name in enumerate(names)]
    files = conversation_files(
        tmp_path / "a.md", "t", [Message(Role.USER, "text", media=tuple(media))]
    )
    text, *images = files
    assert text == tmp_path / "a.md"
    assert {path.parent for path in images} == {tmp_path / "a-media"}
    assert [path.name for path in images][:4] == [
        "01-x.png", "02-passwd.png", "03-CON.png", "04-image.png"
    ]  # fmt: skip
    assert all(len(path.name) < 80 for path in images)
    assert files[text].count(b"](a-media/") == len(names)


async def test_previews_can_be_turned_off_for_later_chats(folder: Path) -> None:
    choice = folder / "state" / "previews"
    for keys in ("/preview off", ""):
        app = frozen(previews=choice)
        async with app.run_test(size=SIZE) as pilot:
            conversation = await ready(pilot, app)
            if keys:
                await pilot.press(*keys, "enter")
                await wait_until(pilot, choice.exists, "the choice is saved")
            await pilot.press(*"/image photo.png", "enter")
            await attached(pilot, conversation, "photo.png")
            assert "▀" not in seen(app)
            assert "photo.png · 64 × 48" in seen(app)


async def test_without_colours_there_are_no_previews(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = frozen()
    async with app.run_test(size=SIZE) as pilot:
        conversation = await ready(pilot, app)
        await pilot.press(*"/image photo.png", "enter")
        await attached(pilot, conversation, "photo.png")
        assert "▀" not in seen(app)


@pytest.mark.skipif(sys.platform != "linux", reason="tools of Linux")
async def test_the_image_in_the_clipboard_is_attached(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = folder / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"):
        monkeypatch.delenv(name, raising=False)
    app = frozen()
    async with app.run_test(size=SIZE) as pilot:
        conversation = await ready(pilot, app)
        await pilot.press("ctrl+v")
        await wait_until(pilot, lambda: "clipboard need a display" in seen(app), "no display")
        monkeypatch.setenv("DISPLAY", ":7")
        await pilot.press(*"/paste", "enter")
        await wait_until(pilot, lambda: "clipboard need `xclip`" in seen(app), "no tool")
        xclip = tools / "xclip"
        xclip.write_text("#!/bin/sh\nexit 1\n")
        xclip.chmod(0o755)
        await pilot.press(*"/paste", "enter")
        await wait_until(pilot, lambda: "no image in the clipboard" in seen(app), "no image")
        xclip.write_text(
            f"#!/bin/sh\nwhile IFS= read -r _; do :; done\nexec /bin/cat {folder}/photo.png\n"
        )
        await pilot.press("ctrl+v")
        await attached(pilot, conversation, "clipboard.png")
        xclip.write_text("#!/bin/sh\necho not an image\n")
        await paste(pilot, "")
        await wait_until(pilot, lambda: "clipboard.png is no image" in seen(app), "no image")
        app.copy_to_clipboard("copied in the chat")
        xclip.write_text("#!/bin/sh\nexit 1\n")
        await pilot.press("ctrl+v")
        await wait_until(pilot, lambda: conversation.prompt.text == "copied in the chat", "text")


def test_paths_are_recognized_as_terminals_paste_them(folder: Path) -> None:
    names = ["photo.png", "voice.wav"]
    paths = [folder / name for name in names]
    assert dropped_paths(" ".join(map(str, paths))) == paths
    assert dropped_paths("\n".join(f'"{path}"' for path in paths)) == paths
    assert dropped_paths(f"{paths[0]} {folder}/missing") == []
    assert dropped_paths(f"'{paths[0]}") == []
    assert dropped_paths("/\0") == []
    assert dropped_paths("/" * 9000) == []
    assert typed_path("'photo.png'") == Path("photo.png")
    assert typed_path("my\\ photo\\'s\\ copy.png") == Path("my photo's copy.png")
    assert typed_path("my photo's copy.png") == Path("my photo's copy.png")
    assert typed_path(f"file://{folder}/photo.png") == paths[0]
