"""Fourier neural operator, by the library that its authors keep: an adapter to `neuraloperator` (extra `fno`)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sciml.messages import check_positive
from sciml.pde.network import Network
from sciml.pde.padding import Walls, read_padding

# Part of the domain that is appended as zeros along an axis that is not periodic.
_DOMAIN_PADDING = 0.125


class FourierOperator(Network):
    """u (batch, channels_in, num_x, num_y) → (batch, channels_out, num_x, num_y) by layers σ(W x + F⁻¹ R F x).

    F is the Fourier transform, R a matrix of the channels for each of the longest waves. Along axes that are not
    circular zeros are appended beforehand and cut off afterwards. Transforms run in float32, also under autocast.

    Args:
        channels_in: frames of the history times fields.
        channels_out: fields.
        width: channels.
        modes: waves along each axis that are kept.
        layers: number of layers.
        padding: "zeros", "circular", "mirror", or one for each axis; "mirror" is the same as "zeros" here.
        walls: accepted for the common interface; Fourier transforms know none.

    Raises:
        ValueError: for sizes that are not positive, an unknown padding, or if `neuraloperator` is not installed.

    Source: Z. Li et al., arXiv:2010.08895; J. Kossaifi et al., arXiv:2412.10354 (the library).
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        width: int = 64,
        modes: int = 16,
        layers: int = 4,
        padding: str | Sequence[str] = "zeros",
        walls: Walls | None = None,  # noqa: ARG002
    ) -> None:
        super().__init__()
        sizes = {"channels_in": channels_in, "channels_out": channels_out}
        sizes |= {"width": width, "modes": modes, "layers": layers}
        check_positive(sizes)
        axes = read_padding(padding)
        self.config: dict[str, Any] = {**sizes, "padding": list(axes)}
        domain_padding = [0.0 if kind == "circular" else _DOMAIN_PADDING for kind in axes]
        operator = _library().FNO(
            n_modes=(modes, modes),
            in_channels=channels_in,
            out_channels=channels_out,
            hidden_channels=width,
            n_layers=layers,
            # Coordinates as input would break translations along periodic axes.
            positional_embedding=None if "circular" in axes else "grid",
            domain_padding=domain_padding if any(domain_padding) else None,
        )
        # The library's weights of waves are complex, which conversions of dtype would cut down to their real parts, and
        # which fused optimizers and sums over processes do not take: the parameters here are real, and become its
        # weights when it is called.
        self.parts = nn.ParameterDict()
        for name, parameter in operator.named_parameters():
            values = parameter.detach()
            pairs = {"real": values.real, "imaginary": values.imag} if values.is_complex() else {"all": values}
            for part, value in pairs.items():
                self.parts[f"{name.replace('.', '/')}/{part}"] = nn.Parameter(value.clone())
        self._operator = [operator.to("meta")]  # in a list, so that it is no part of the state

    def check_grid(self, num_x: int, num_y: int) -> None:
        """Raise a ValueError if the grid has fewer waves than are kept."""
        modes = self.config["modes"]
        if min(num_x, num_y) < modes:
            raise ValueError(f"got a grid of {num_x} x {num_y} points, which has fewer waves than modes={modes}")

    def forward(self, u: Tensor, parameters: Tensor | None = None) -> Tensor:
        """The next frame of (batch, channels_in, num_x, num_y).

        Raises:
            ValueError: if the channels are others, the grid is too small, or there are parameters.
        """
        self.check(u)
        if parameters is not None:
            raise ValueError("FourierOperator is not conditioned on parameters; SineNet and ModernUNet can be")
        weights = self.weights()
        with torch.autocast(u.device.type, enabled=False):
            return functional_call(self._operator[0], weights, (u.to(next(iter(self.parts.values())).dtype),))

    def weights(self) -> dict[str, Tensor]:
        """The library's parameters by its names."""
        found: dict[str, Tensor] = {}
        for key, value in self.parts.items():
            name, _, part = key.replace("/", ".").rpartition(".")
            if part != "imaginary":
                found[name] = value
            else:
                found[name] = torch.complex(found[name], value)
        return found


def _library() -> Any:
    try:
        from neuralop import models
    except ImportError as error:
        raise ValueError(
            "the Fourier neural operator comes from the library neuraloperator, which is not installed "
            f"({error}); install it with: pip install 'sciml-suite[fno]'"
        ) from error
    return models
