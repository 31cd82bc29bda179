"""What is found does not hang on the precision of products, or on devices."""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import pytest

import ooc_jax
from ooc_jax import circuits
from ooc_jax import experiments
from ooc_jax.experiments import AttentionParticipation
from ooc_jax.experiments import OutputPrediction
from ooc_jax.experiments import SemanticAttention
from ooc_jax.experiments import output_prediction
from ooc_jax.results import tables
from tests import finished
from tests.experiments import same_tables
from tests.experiments import scripts

_SCRIPT = pathlib.Path(__file__).parents[2] / 'experiments/output_prediction.py'
_NULL = 300
# As users compile, but for the pieces, one for each core: see conftest.py.
_XLA_FLAGS = '--xla_cpu_parallel_codegen_split_count=1'


def _computed(family, **settings):
  """Tables of one layer: features, random directions, labels, sweeps."""
  model = ooc_jax.load_model(finished.checkpoint(family))
  neurons = ooc_jax.load_dictionary('mlp', model=model, layer=1)
  config = OutputPrediction(
      k=4, null_size=_NULL, layer_null_size=100, **settings
  )
  found = output_prediction.compute(model, {1: neurons}, config)
  summary = output_prediction.summarise(found, config)
  directions = {f'directions {x}': y for x, y in found.directions.items()}
  return {'features': found.features[1], **directions, **summary.tables}


class PrecisionTest(parameterized.TestCase):

  @parameterized.parameters('llama', 'gemma2')
  def test_tables_of_a_layer(self, family):
    exact = _computed(family, precision='exact')
    others = [_computed(family, precision='screened')]
    if family == 'llama':  # Interpreted here.
      others.append(_computed(family, precision='screened', kernel='pallas'))
    for other in others:
      differences = same_tables.check(
          exact, other, null_size=_NULL, features=36
      )
      # They were made in two ways.
      self.assertIn('features entropy', differences)

  def test_auto_is_recorded_as_what_it_is(self):
    """So a folder goes on under either name, and under no other precision."""
    model = finished.checkpoint('llama')
    self.enter_context(
        absltest.mock.patch.object(circuits.lens._lens, '_cpu_flags', tuple)
    )
    with tempfile.TemporaryDirectory() as root:
      out, settings = pathlib.Path(root) / 'out', {'k': 4, 'null_size': 100}
      settings |= {'layers': '0', 'readouts': 'output'}

      def run(**more):
        config = OutputPrediction(**settings, **more)
        output_prediction.run(config, model=model, out=out, figures=False)
        return scripts.digest(out)

      before = run(precision='exact')
      self.assertEqual(run(), before)
      said = json.loads((out / 'config.json').read_text())['settings']
      self.assertEqual(said['precision'], 'exact')
      with self.assertRaisesRegex(
          ooc_jax.InputError, 'precision is "exact" there and "screened" here'
      ):
        run(precision='screened')

  @parameterized.parameters(
      ('tiny-gemma2', OutputPrediction().null_size), ('tiny-llama3', 4096)
  )
  @pytest.mark.slow
  def test_whole_experiments(self, name, null_size):
    """Experiments 1 and 3, one at its defaults; 2 multiplies no vocabulary."""
    with tempfile.TemporaryDirectory() as root:
      root = pathlib.Path(root)
      attention = experiments.attention_participation.run(
          AttentionParticipation(
              model=name, layers='1,6', nulls='random', write_tokens=0
          ),
          out=root / 'attention',
          figures=False,
      ).folder
      found = {}

      def run(precision, out):
        return output_prediction.run(
            OutputPrediction(
                model=name, precision=precision, null_size=null_size
            ),
            out=out,
            figures=False,
        ).folder

      def both(precision):
        labels = run(precision, root / precision / 'labels')
        joined = experiments.semantic_attention.run(
            SemanticAttention(),
            labels=labels,
            attention=attention,
            out=root / precision / 'joined',
            figures=False,
        ).folder
        found[precision] = {
            f'{folder.name} {x}': table
            for folder in (labels, joined)
            for x, table in same_tables.tables(folder).items()
        }

      both('auto')
      labels = root / 'auto/labels'
      said = json.loads((labels / 'config.json').read_text())
      precision = said['settings']['precision']
      (other,) = set(circuits.PRECISIONS) - {'auto', precision}
      both(other)
      print(
          name,
          other,
          same_tables.check(
              found['auto'],
              found[other],
              null_size=null_size,
              features=384,
              ranks=12,
          ),
      )
      # Said by its name, it goes on with that folder, to the same bytes.
      before = scripts.digest(labels)
      shutil.rmtree(labels / 'features')
      (labels / f'{tables.directions_name(3)}.parquet').unlink()
      run(precision, labels)
      self.assertEqual(scripts.digest(labels), before)

  @pytest.mark.slow
  def test_eight_devices(self):
    """The same files where nothing is said; the same ids over all."""
    model = finished.checkpoint('gemma2')
    with tempfile.TemporaryDirectory() as root:
      outs = {}
      for devices, mesh in ((1, 'auto'), (8, 'auto'), (8, 'feature:8')):
        out = outs[devices, mesh] = pathlib.Path(root) / f'{devices}-{mesh}'
        done = subprocess.run(
            [
                sys.executable, str(_SCRIPT), f'--weights={model}',
                f'--out={out}', f'--mesh={mesh}', '--dictionary=mlp', '--k=4',
                '--null_size=300', '--nofigures',
            ],
            env=scripts.environment() | {'JAX_NUM_CPU_DEVICES': str(devices),
                                         'XLA_FLAGS': _XLA_FLAGS},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
      one = outs[1, 'auto']
      self.assertEqual(scripts.digest(one), scripts.digest(outs[8, 'auto']))
      same_tables.check(
          same_tables.tables(one),
          same_tables.tables(outs[8, 'feature:8']),
          null_size=_NULL,
          features=36,
      )


if __name__ == '__main__':
  absltest.main()
