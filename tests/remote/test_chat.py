"""The chat, connected to a server with scripted answers."""

from localmtp.remote.session import open_remote
from localmtp.tui.app import ChatApp
from localmtp.tui.model_loading import server_opener
from tests.remote.loopback import Script, ended, said, serving, usage
from tests.tui.screen import answered, ready, seen


async def test_shows_the_statistics_of_the_server() -> None:
    timings = {"cache_n": 0, "prompt_n": 7, "prompt_ms": 5.0}
    first = said("One", timings=timings | {"predicted_n": 1})
    drafts = {"draft_n": 2, "draft_n_accepted": 1}
    rest = [said(t, timings=timings | drafts | {"predicted_n": n}) for t, n in ((" two", 2),)]
    chunks = (first, *rest, ended(), usage(7, 2))
    with serving(Script(chunks, owner="llamacpp", models=("big-model",))) as script:
        app = ChatApp(None, server_opener(lambda name: open_remote(script.url, name)))
        async with app.run_test(size=(120, 36)) as pilot:
            conversation = await ready(pilot, app)
            await pilot.pause()
            assert f"big-model answers at {script.url[7:]}." in seen(app)
            conversation.prompt.put("Count")
            await pilot.press("enter")
            await answered(pilot, conversation)
            screen = seen(app)
        app.close()
    assert "One two" in screen
    assert "drafting on" in screen
    assert "50 %" in screen or "50%" in screen


async def test_another_model_of_a_server_is_not_introduced_as_the_embedded_one() -> None:
    with serving(Script((said("Hi"), ended()), owner="llamacpp", models=("big/nano",))) as script:
        app = ChatApp(None, server_opener(lambda name: open_remote(script.url, name)))
        async with app.run_test(size=(120, 36)) as pilot:
            await ready(pilot, app)
            await pilot.pause()
            assert f"nano answers at {script.url[7:]}." in seen(app)
            assert "is a toy" not in seen(app)
        app.close()


async def test_lost_connection_retains_the_partial_answer() -> None:
    with serving(Script((said("Once upon"),), done=False)) as script:
        app = ChatApp(None, server_opener(lambda name: open_remote(script.url, name)))
        async with app.run_test(size=(120, 36)) as pilot:
            conversation = await ready(pilot, app)
            conversation.prompt.put("Tell me a story")
            await pilot.press("enter")
            await answered(pilot, conversation)
            screen = seen(app)
        app.close()
    assert "Once upon" in screen
    assert "model lost" in screen
