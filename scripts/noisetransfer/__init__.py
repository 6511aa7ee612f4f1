"""Structured noise from image modifications, and what it protects against."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = ["Averaged", "Noise", "NoisyNetwork", "fit_noise", "inject", "noise_off"]

if TYPE_CHECKING:
    from noisetransfer.fitting import fit_noise
    from noisetransfer.injection import Averaged, Noise, NoisyNetwork, inject, noise_off
else:

    def __getattr__(name: str) -> object:
        """Import what is used outside the workflow when it is first asked for, since it needs torch."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from noisetransfer import fitting, injection

        return getattr(fitting if name == "fit_noise" else injection, name)
