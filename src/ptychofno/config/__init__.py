"""Configuration: YAML files, what their parts declare, and the command line."""
