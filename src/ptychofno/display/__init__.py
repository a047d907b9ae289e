"""What a person sees: the terminal and the style of figures."""
