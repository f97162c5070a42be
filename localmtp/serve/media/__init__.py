"""Images and sound of requests: parts of messages, data URLs, and files of other servers."""
