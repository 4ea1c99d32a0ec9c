"""What the author of a project declares of datasets, and reads of it."""
