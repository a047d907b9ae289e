"""Training a generator with the physics as its only teacher."""
