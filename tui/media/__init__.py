"""Images and sound in the chat: attaching, dropped paths, the clipboard, previews."""
