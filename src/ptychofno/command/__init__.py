"""The command line: what is typed, what is told, and how it ends."""
