"""The HTTP API: operations as routes, authentication, the live stream, the description."""
