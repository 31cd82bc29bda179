"""Figures and text from a results folder, never from weights."""

from ooc_jax.report._curve import DepthCurve
from ooc_jax.report._curve import depth_curve
from ooc_jax.report._depth import depth_figure
from ooc_jax.report._table import example_lines
from ooc_jax.report._table import header
from ooc_jax.report._table import layer_line

__all__ = (
    'DepthCurve',
    'depth_curve',
    'depth_figure',
    'example_lines',
    'header',
    'layer_line',
)
