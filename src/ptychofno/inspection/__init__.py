"""What happens inside a network: statistics of its layers and parameters, by hooks."""
