"""Model files on disk and on the hub: listed, downloaded, removed."""
