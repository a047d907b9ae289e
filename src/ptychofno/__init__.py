"""Physics-supervised Fourier-operator networks for ptychography, composed with Hydra."""

__version__ = "0.1.0"
