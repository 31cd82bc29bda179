"""Reading and editing activations at named sites."""

import dataclasses
import functools
import inspect

from absl.testing import absltest
from absl.testing import parameterized
import flax
import jax
import jax.numpy as jnp
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.model import TAPPED
from ooc_jax.model import Model
from ooc_jax.model import ModelConfig
from ooc_jax.model import Rope
from ooc_jax.model import Site
from ooc_jax.model import Transformer
from ooc_jax.model import forward
from ooc_jax.model import parameter
from ooc_jax.model import parameter_shapes
from ooc_jax.model import run_with_taps

_CONFIG = ModelConfig(
    family='gemma2',
    vocab_size=37,
    embed_dim=10,
    mlp_dim=14,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=6,
    norm_eps=1e-5,
    tied=True,
    activation='gelu_tanh',
    norm_offset=1.0,
    scale_embedding=True,
    post_norms=True,
    attention_scale=0.5,
    attention_softcap=20.0,
    final_softcap=9.0,
    rope=Rope(base=100.0),
    windows=(3, None, 3),
)


@functools.cache
def _model(config: ModelConfig = _CONFIG) -> Model:
  rng = np.random.default_rng(0)
  flat = {
      tuple(name.split('/')): jnp.asarray(
          0.4 * rng.normal(size=shape), jnp.float32
      )
      for name, shape in parameter_shapes(config).items()
  }
  return Model(config, flax.traverse_util.unflatten_dict(flat))


class TapsTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.model = _model()
    cls.tokens = jax.random.randint(jax.random.key(1), (2, 8), 0, 37)
    cls.plain = forward(cls.model, cls.tokens)

  def taps(self, **kwargs):
    fn = functools.partial(forward, self.model)
    return run_with_taps(fn, self.tokens, **kwargs)

  def test_saving_changes_nothing(self):
    keys = [(site, i) for site in TAPPED for i in range(3)]
    out, saved = self.taps(save=keys)
    self.assertCountEqual(saved, keys)
    # Compiled as one, and operation by operation: rounding remains.
    np.testing.assert_allclose(out, self.plain, rtol=0, atol=1e-5)
    widths = {Site.ATTN_Z: 24, Site.MLP_NEURON: self.model.config.mlp_dim}
    for (site, _), x in saved.items():
      width = widths.get(site, 10)
      self.assertEqual(x.shape, (2, 8, width))

  def test_the_stream_adds_up(self):
    """What the sites say of themselves, at every layer."""
    keys = [(site, i) for site in TAPPED for i in range(3)]
    _, saved = self.taps(save=keys)
    for i in range(3):
      mid = saved[Site.RESID_PRE, i] + saved[Site.ATTN_OUT, i]
      post = saved[Site.RESID_MID, i] + saved[Site.MLP_OUT, i]
      np.testing.assert_array_equal(mid, saved[Site.RESID_MID, i])
      np.testing.assert_array_equal(post, saved[Site.RESID_POST, i])
      if i:
        np.testing.assert_array_equal(
            saved[Site.RESID_PRE, i], saved[Site.RESID_POST, i - 1]
        )
    scaled = self.model.params['embedding'][self.tokens] * jnp.sqrt(10.0)
    np.testing.assert_allclose(saved[Site.RESID_PRE, 0], scaled, rtol=1e-6)

  def test_what_blocks_read_and_heads_give(self):
    places = (Site.ATTN_Z, Site.ATTN_OUT, Site.RESID_MID, Site.MLP_IN)
    _, saved = self.taps(save=[(site, 1) for site in places])
    z, out, mid, read = (saved[site, 1] for site in places)
    layer = self.model.params['layer_1']

    def rms(x):
      return x / np.sqrt((np.square(x)).mean(-1, keepdims=True) + 1e-5)

    mid, z = np.asarray(mid, np.float64), np.asarray(z, np.float64)
    np.testing.assert_allclose(read, rms(mid), rtol=1e-5, atol=1e-6)
    written = z @ np.asarray(layer['attention']['output']).reshape(24, 10)
    gain = 1 + np.asarray(layer['post_attention_norm']['weight'])
    np.testing.assert_allclose(out, rms(written) * gain, rtol=1e-4, atol=1e-5)

  @parameterized.parameters(*TAPPED)
  def test_own_activation_put_back_changes_nothing(self, site):
    key = (site, 1)
    out, saved = self.taps(save=[key])
    again, _ = self.taps(edits={key: lambda _: saved[key]})
    np.testing.assert_array_equal(again, out)

  @parameterized.parameters(*TAPPED)
  def test_an_edit_acts_and_is_what_is_saved(self, site):
    key = (site, 1)
    out, saved = self.taps(save=[key], edits={key: lambda x: 0 * x + 1.5})
    np.testing.assert_array_equal(saved[key], 1.5)
    self.assertGreater(float(jnp.abs(out - self.plain).max()), 1e-2)

  def test_an_edit_acts_downstream_only(self):
    keys = [(Site.RESID_POST, i) for i in range(3)]
    _, before = self.taps(save=keys)
    _, after = self.taps(
        save=keys, edits={(Site.MLP_OUT, 1): lambda x: x + 1.0}
    )
    np.testing.assert_array_equal(after[keys[0]], before[keys[0]])
    np.testing.assert_allclose(
        after[keys[1]], before[keys[1]] + 1.0, rtol=1e-5, atol=1e-6
    )

  def test_gradient_through_an_edit_is_the_measured_effect(self):
    key = (Site.MLP_OUT, 0)
    direction = jax.random.normal(jax.random.key(2), (1, 1, 10))

    @jax.jit
    def logit(step):
      out, _ = self.taps(edits={key: lambda x: x + step * direction})
      return out[0, -1, :5].sum()

    step = 1e-2
    measured = (logit(step) - logit(-step)) / (2 * step)
    predicted = jax.grad(logit)(0.0)
    self.assertGreater(abs(float(measured)), 1e-2)
    np.testing.assert_allclose(predicted, measured, rtol=5e-3)

  def test_under_vmap(self):
    """A batch of edits at once, as steering sweeps do."""
    key = (Site.RESID_POST, 0)

    def run(scale):
      return self.taps(edits={key: lambda x: x * scale})[0]

    scales = jnp.asarray([0.5, 1.0, 3.0])
    swept = jax.vmap(run)(scales)
    for scale, out in zip(scales, swept, strict=True):
      np.testing.assert_allclose(out, run(scale), rtol=0, atol=1e-5)
    np.testing.assert_allclose(swept[1], self.plain, rtol=0, atol=1e-5)

  @parameterized.parameters(
      ([(Site.RESID_PRE, 3)], 'resid_pre of layer 3'),
      ([(Site.ATTN_OUT, -1)], 'attn_out of layer -1'),
      ([(Site.EMBEDDING, 0)], 'embedding of layer 0'),
  )
  def test_a_site_that_is_not_there_is_refused(self, keys, named):
    with self.assertRaisesRegex(InputError, named):
      self.taps(save=keys)
    with self.assertRaisesRegex(InputError, named):
      self.taps(edits=dict.fromkeys(keys, lambda x: x))

  def test_two_passes_in_one_are_refused(self):
    def twice(tokens, *, tap):
      once = forward(self.model, tokens, tap=tap)
      return once + forward(self.model, tokens, tap=tap)

    with self.assertRaisesRegex(InputError, 'mlp_out of layer 1 twice'):
      run_with_taps(twice, self.tokens, save=[(Site.MLP_OUT, 1)])


class ForwardTest(parameterized.TestCase):

  @parameterized.parameters(-1, 37, 2**31 - 1)
  def test_ids_that_the_model_has_not_are_refused(self, wrong):
    tokens = jnp.asarray([[0, 36, wrong]], jnp.int32)
    with self.assertRaisesRegex(InputError, f'{wrong}.*ids 0 to 36'):
      forward(_model(), tokens)

  def test_tokens_of_another_kind_are_refused(self):
    # Without the type checker that only tests run under.
    unchecked = inspect.unwrap(forward)
    for tokens in (jnp.zeros((1, 3)), jnp.zeros(3, jnp.int32)):
      with self.assertRaisesRegex(InputError, r'integers of shape \[B, T\]'):
        unchecked(_model(), tokens)

  def test_narrow_ids_and_no_ids(self):
    model = _model()
    narrow = forward(model, jnp.asarray([[3, 36]], jnp.int8))
    wide = forward(model, jnp.asarray([[3, 36]], jnp.int32))
    np.testing.assert_array_equal(narrow, wide)
    self.assertEqual(
        forward(model, jnp.zeros((2, 0), jnp.int32)).shape, (2, 0, 37)
    )

  @parameterized.parameters(
      ('embedding', 'embedding'),
      ('layer_2/mlp/up', 'mlp'),
      ('layer_0/attention/output', 'attention'),
      ('layer_1/post_mlp_norm/weight', 'norms'),
  )
  def test_a_part_that_was_not_loaded_is_named(self, path, part):
    model = _model()
    flat = dict.copy(model.params)
    node, names = flat, path.split('/')
    for name in names[:-1]:
      node[name] = dict.copy(node[name])
      node = node[name]
    del node[names[-1]]
    tokens = jnp.zeros((1, 2), jnp.int32)
    with self.assertRaisesRegex(InputError, f"{path}.*'{part}' in parts"):
      forward(model.replace(params=flat), tokens)
    with self.assertRaisesRegex(InputError, f"{path}.*'{part}' in parts"):
      parameter(model.replace(params=flat), path)

  @parameterized.parameters('llama', 'gemma2', 'gemma3')
  def test_shapes_are_those_of_the_parameters(self, family):
    config = dataclasses.replace(_CONFIG, family=family, tied=False)
    tokens = jnp.zeros((1, 1), jnp.int32)
    tree = jax.eval_shape(Transformer(config).init, jax.random.key(0), tokens)
    leaves = jax.tree_util.tree_leaves_with_path(tree['params'])
    actual = {'/'.join(k.key for k in path): x.shape for path, x in leaves}
    self.assertEqual(parameter_shapes(config), actual)


if __name__ == '__main__':
  absltest.main()
