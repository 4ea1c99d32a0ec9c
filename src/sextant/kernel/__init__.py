"""The nouns, the graph, ids, clock, errors, limits, registry and ports. No I/O; no third party but
msgspec."""
