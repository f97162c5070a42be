"""Paths of the user's own files.

Nothing is created here; whoever writes a file makes its folder. Folders follow the platform's
conventions: `XDG_CONFIG_HOME`, `XDG_DATA_HOME` and `XDG_STATE_HOME` on Linux, `Library` on macOS,
`AppData` on Windows.
"""

from __future__ import annotations

from pathlib import Path

_APP = "localmtp"


def config_file() -> Path:
    """Configuration, `config.toml`: the default model."""
    return _config() / "config.toml"


def registry_file() -> Path:
    """The user's own registry entries, `models.toml`."""
    return _config() / "models.toml"


def history_file() -> Path:
    """Saved conversations: an SQLite database."""
    return _data() / "history.sqlite3"


def bench_results() -> Path:
    """Folder of the results of `bench`, one JSON file each."""
    return _data() / "bench"


def pacing_store() -> Path:
    """Folder of what automatic pacing learned, one JSON file for each pair and way of loading."""
    return _state() / "pacing"


def load_checks() -> Path:
    """Folder of the results of trial loads, one JSON file per pair, and corrected vocabularies."""
    return _state() / "load-checks"


def theme_file() -> Path:
    """Name of the chat's theme."""
    return _state() / "theme"


def previews_file() -> Path:
    """Whether the chat previews images."""
    return _state() / "previews"


def tool_approvals() -> Path:
    """Tools that the chat runs without asking, one a line."""
    return _state() / "tools"


def hub_cache() -> Path:
    """Cache of huggingface_hub, shared with other programs (`HF_HUB_CACHE`, `HF_HOME`)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _config() -> Path:
    from platformdirs import user_config_path

    return user_config_path(_APP, appauthor=False)


def _data() -> Path:
    from platformdirs import user_data_path

    return user_data_path(_APP, appauthor=False)


def _state() -> Path:
    from platformdirs import user_state_path

    return user_state_path(_APP, appauthor=False)
