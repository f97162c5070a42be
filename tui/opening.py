"""From a model's name to a session, told step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localmtp.engine.pair import LoadOptions
    from localmtp.models.download import Progress
    from localmtp.session import Choices, Session
    from localmtp.tui.screens.chat import Opener


def opener(
    model: str | None,
    drafter: str | None,
    offline: bool,
    choices: Choices | None,
    options: LoadOptions | None,
) -> Opener:
    """Something that resolves, downloads if need be, and loads."""

    def opening(tell: Callable[[str], None]) -> Session:
        # libllama takes its time to load: here it does not delay the first picture.
        from localmtp.models import resolve
        from localmtp.session import open_session

        def downloading(progress: Progress) -> None:
            done, total = progress.done_in_all / 1e9, progress.total_in_all / 1e9
            tell(f"downloading {progress.file} · {done:.2f} of {total:.2f} GB")

        files = resolve(model, drafter=drafter, offline=offline, progress=downloading)
        tell(f"loading {files.name} …")
        return open_session(files, choices, options)

    return opening
