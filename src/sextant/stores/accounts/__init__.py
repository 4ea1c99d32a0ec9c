"""The store of accounts, tokens and sessions: a database of its own, apart from the state."""
