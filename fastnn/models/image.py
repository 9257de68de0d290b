"""What networks over images share."""

from __future__ import annotations

from typing import Any

from fastnn import nn


class ImageModel(nn.Module):
    """A network whose first step is to take its images.

    Parameters
    ----------
    input_format : {"NCHW", "NHWC"}
        How images come: (N, C, H, W), or (N, H, W, C), which is the layout inside and saves a copy.
    """

    def __init__(self, input_format: str = "NCHW") -> None:
        super().__init__()
        if input_format not in ("NCHW", "NHWC"):
            raise ValueError(f"input_format must be 'NCHW' or 'NHWC', got {input_format!r}")
        self.input_format = input_format

    def images(self, input: Any) -> Any:
        """The input as (N, C, H, W)."""
        if input.ndim != 4:
            sizes = ", ".join(self.input_format)
            raise ValueError(f"input has shape {tuple(input.shape)}; expected ({sizes})")
        return input.permute(0, 3, 1, 2) if self.input_format == "NHWC" else input
