"""What can be run, and where its files are."""
