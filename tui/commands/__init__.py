"""Key bindings, slash commands, settings and exports of the chat."""
