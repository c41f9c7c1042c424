"""The version, read by the build and written into every database."""

__version__ = "0.1.0"
