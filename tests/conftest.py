"""Makes every silent mistake loud, for the whole test run."""

from absl import flags
import jax


def pytest_configure(config):
  del config  # Part of the hook's signature.
  flags.FLAGS.mark_as_parsed()  # absl flags are read under pytest.
  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_num_cpu_devices', 8)
  jax.config.update('jax_numpy_rank_promotion', 'raise')
  jax.config.update('jax_numpy_dtype_promotion', 'strict')
