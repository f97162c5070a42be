"""Memory of draft models: a KV cache of their own for the whole context."""

from pathlib import Path

from localmtp.engine.load_options import LoadOptions
from localmtp.models import resolve
from localmtp.models.memory.available import memory_by_part
from tests.draft_models import noisy


def test_the_cache_of_a_draft_model_is_counted(tmp_path: Path) -> None:
    drafter = noisy(tmp_path / "small.gguf")
    files = resolve("nano", drafter=str(drafter))
    small, large = (memory_by_part(files, LoadOptions(context=n)) for n in (2048, 8192))
    alone = memory_by_part(resolve("nano", drafter="none"), LoadOptions(context=8192))
    assert large["cache"] == alone["cache"]
    grown = large["drafter"] - small["drafter"]
    # Its sliding layers are allocated at full size, because drafts are rolled back.
    assert grown > large["cache"] - memory_by_part(files, LoadOptions(context=2048))["cache"]
