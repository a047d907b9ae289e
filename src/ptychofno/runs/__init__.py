"""A run on disk: its directory, its record, its weights and the names of its files."""
