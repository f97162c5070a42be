"""`localmtp bench`: a module for each subcommand."""
