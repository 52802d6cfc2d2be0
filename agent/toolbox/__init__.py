"""What an agent drives searches with: tools with schemas, served to the chat and over MCP."""
