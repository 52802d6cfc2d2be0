"""Tools with typed schemas that drive searches, for the chat and for other agents over MCP."""
