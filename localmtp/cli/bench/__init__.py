"""`localmtp bench` and its subcommands."""
