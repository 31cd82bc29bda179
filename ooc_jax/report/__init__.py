"""Figures and text from a results folder, never from weights."""

from ooc_jax.report._comparison import cautions
from ooc_jax.report._comparison import comparison_numbers
from ooc_jax.report._comparison import comparison_rows
from ooc_jax.report._curve import DepthCurve
from ooc_jax.report._curve import DepthShape
from ooc_jax.report._curve import depth_curve
from ooc_jax.report._depth import depth_figure
from ooc_jax.report._distributions import LayerMeasures
from ooc_jax.report._distributions import MeasureDistributions
from ooc_jax.report._distributions import measure_distributions
from ooc_jax.report._effects_figure import effects_figure
from ooc_jax.report._figures import FIGURES
from ooc_jax.report._figures import Figure
from ooc_jax.report._figures import draw
from ooc_jax.report._head_map import heads_figure
from ooc_jax.report._heat_map import sweep_figure
from ooc_jax.report._heat_map import sweep_rows
from ooc_jax.report._null_band import null_band
from ooc_jax.report._pages import contact_sheet_figures
from ooc_jax.report._participation import CONTEXT_NAMES
from ooc_jax.report._participation import HeadMap
from ooc_jax.report._participation import head_map
from ooc_jax.report._participation import participation_curve
from ooc_jax.report._participation import participation_sweep
from ooc_jax.report._populations import ContextPopulations
from ooc_jax.report._populations import Populations
from ooc_jax.report._populations import population_rows
from ooc_jax.report._populations import populations
from ooc_jax.report._populations_figure import populations_figure
from ooc_jax.report._ridges import distribution_figure
from ooc_jax.report._runs import RunSummary
from ooc_jax.report._runs import distinct_labels
from ooc_jax.report._runs import experiment_of
from ooc_jax.report._runs import run_summary
from ooc_jax.report._sheet import ContactSheet
from ooc_jax.report._sheet import SheetFeature
from ooc_jax.report._sheet import contact_sheet
from ooc_jax.report._statements import statement_cautions
from ooc_jax.report._statements import statement_rows
from ooc_jax.report._sweep import Decision
from ooc_jax.report._sweep import Sweep
from ooc_jax.report._sweep import sweep
from ooc_jax.report._table import example_lines
from ooc_jax.report._table import header
from ooc_jax.report._table import layer_line
from ooc_jax.report._text_tables import aligned_table
from ooc_jax.report._text_tables import csv_table
from ooc_jax.report._text_tables import markdown_table
from ooc_jax.report._text_tables import markdown_text

__all__ = (
    'ContactSheet',
    'CONTEXT_NAMES',
    'ContextPopulations',
    'Decision',
    'DepthCurve',
    'DepthShape',
    'FIGURES',
    'Figure',
    'HeadMap',
    'LayerMeasures',
    'MeasureDistributions',
    'Populations',
    'RunSummary',
    'SheetFeature',
    'Sweep',
    'aligned_table',
    'cautions',
    'comparison_numbers',
    'comparison_rows',
    'contact_sheet',
    'contact_sheet_figures',
    'csv_table',
    'depth_curve',
    'depth_figure',
    'distinct_labels',
    'distribution_figure',
    'draw',
    'effects_figure',
    'example_lines',
    'experiment_of',
    'head_map',
    'header',
    'heads_figure',
    'layer_line',
    'markdown_table',
    'markdown_text',
    'measure_distributions',
    'null_band',
    'participation_curve',
    'participation_sweep',
    'population_rows',
    'populations',
    'populations_figure',
    'run_summary',
    'statement_cautions',
    'statement_rows',
    'sweep',
    'sweep_figure',
    'sweep_rows',
)
