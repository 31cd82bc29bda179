"""Weights in and out: safetensors, GGUF, Orbax, the hub."""

from ooc_jax.checkpoints._convert_model import convert_model
from ooc_jax.checkpoints._folder import restore_model
from ooc_jax.checkpoints._folder import save_model
from ooc_jax.checkpoints._hub import HubOrigin
from ooc_jax.checkpoints._hub import fetch_file
from ooc_jax.checkpoints._hub import hub_origin
from ooc_jax.checkpoints._hub_errors import MissingFile
from ooc_jax.checkpoints._hub_plan import PlannedFile
from ooc_jax.checkpoints._hub_plan import plan_file
from ooc_jax.checkpoints._hub_plan import plan_shapes
from ooc_jax.checkpoints._load import ModelPlan
from ooc_jax.checkpoints._load import load_model
from ooc_jax.checkpoints._load import plan_model
from ooc_jax.checkpoints._locate import MODELS
from ooc_jax.checkpoints._locate import model_entry
from ooc_jax.checkpoints._manifest import origin_of
from ooc_jax.checkpoints._orbax import TrainingCheckpoints
from ooc_jax.checkpoints._orbax import barrier
from ooc_jax.checkpoints._orbax import load_arrays
from ooc_jax.checkpoints._orbax import save_arrays
from ooc_jax.checkpoints._source import read_json

__all__ = tuple(x for x in dir() if not x.startswith('_'))
