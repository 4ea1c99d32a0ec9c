"""The store of accounts, tokens, sessions and links: a database of its own."""
