"""Structured noise from image modifications, and what it protects against."""

__version__ = "0.1.0"
