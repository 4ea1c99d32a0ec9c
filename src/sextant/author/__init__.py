"""What the author of a project writes with: declarations, checks, bindings. Reached lazily through
`import sextant`."""
