"""An edge cache appliance for video."""

__version__ = "0.1.0"
