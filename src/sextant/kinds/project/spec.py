"""The name of this kind."""

KIND = "project"
