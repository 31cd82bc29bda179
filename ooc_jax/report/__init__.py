"""Figures and text from a results folder, never from weights.

`draw(folder)` draws all figures of a finished run of any experiment. Each kind
is a file of this room: what it reads of a folder (a frozen dataclass), how it
draws that, and a `Figure` record that says whose it is; `FIGURES` lists them.
A comparison of runs calls the reading and drawing functions itself.
"""

from ooc_jax.report._attention_by_head import AttentionByHead
from ooc_jax.report._attention_by_head import attention_by_head
from ooc_jax.report._attention_by_head import attention_by_head_figure
from ooc_jax.report._comparison import RunSummary
from ooc_jax.report._comparison import cautions
from ooc_jax.report._comparison import comparison_numbers
from ooc_jax.report._comparison import comparison_rows
from ooc_jax.report._comparison import distinct_labels
from ooc_jax.report._comparison import run_summary
from ooc_jax.report._comparison import statement_cautions
from ooc_jax.report._comparison import statement_rows
from ooc_jax.report._contact_sheet import ContactSheet
from ooc_jax.report._contact_sheet import SheetFeature
from ooc_jax.report._contact_sheet import contact_sheet
from ooc_jax.report._contact_sheet import contact_sheet_figures
from ooc_jax.report._cost import CostRow
from ooc_jax.report._cost import cost_figure
from ooc_jax.report._depth import depth_figure
from ooc_jax.report._depth_curve import DepthCurve
from ooc_jax.report._depth_curve import DepthShape
from ooc_jax.report._depth_curve import depth_curve
from ooc_jax.report._depth_curve import null_band
from ooc_jax.report._distributions import LayerMeasures
from ooc_jax.report._distributions import MeasureDistributions
from ooc_jax.report._distributions import distribution_figure
from ooc_jax.report._distributions import measure_distributions
from ooc_jax.report._effects import Examples
from ooc_jax.report._effects import LensEffects
from ooc_jax.report._effects import examples
from ooc_jax.report._effects import examples_figure
from ooc_jax.report._effects import lens_effects
from ooc_jax.report._effects import lens_effects_figure
from ooc_jax.report._figures import FIGURES
from ooc_jax.report._figures import draw
from ooc_jax.report._heads import HeadMap
from ooc_jax.report._heads import head_map
from ooc_jax.report._heads import heads_figure
from ooc_jax.report._populations import ContextPopulations
from ooc_jax.report._populations import Populations
from ooc_jax.report._populations import effects_figure
from ooc_jax.report._populations import population_rows
from ooc_jax.report._populations import populations
from ooc_jax.report._populations import populations_figure
from ooc_jax.report._reading import Figure
from ooc_jax.report._reading import experiment_of
from ooc_jax.report._scores import ScoreCurve
from ooc_jax.report._scores import ValidationCurves
from ooc_jax.report._scores import scores_figure
from ooc_jax.report._scores import validation_curves
from ooc_jax.report._scores import weights_figure
from ooc_jax.report._style import CONTEXT_NAMES
from ooc_jax.report._sweep import sweep_figure
from ooc_jax.report._sweep_reading import Decision
from ooc_jax.report._sweep_reading import Sweep
from ooc_jax.report._sweep_reading import participation_sweep
from ooc_jax.report._sweep_reading import sweep
from ooc_jax.report._text_tables import aligned_table
from ooc_jax.report._text_tables import csv_table
from ooc_jax.report._text_tables import example_lines
from ooc_jax.report._text_tables import header
from ooc_jax.report._text_tables import layer_line
from ooc_jax.report._text_tables import markdown_table
from ooc_jax.report._text_tables import markdown_text

__all__ = tuple(x for x in dir() if not x.startswith('_'))
