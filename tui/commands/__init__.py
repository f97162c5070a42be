"""Actions, slash commands and settings of the chat."""
