"""Derives what would be live without some of the changes: what changed between two moments, which
content every partition would have in each case, and the steps that make it. Nothing is released."""
