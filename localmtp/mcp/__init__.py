"""Tools of MCP servers (Model Context Protocol), and two that are built in."""
