"""The HTTP API: routes made from the table of operations, who may come in, the live stream of
events."""
