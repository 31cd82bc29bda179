"""Makes every silent mistake loud, for the whole test run."""

import os

# Read by huggingface_hub when it is imported: the tests have a hub of their
# own, and neither a token nor the offline mode of this machine is for it.
for _name in [n for n in os.environ if n.startswith('HF_')]:
  del os.environ[_name]

from absl import flags  # noqa: E402
import jax  # noqa: E402


def pytest_configure(config):
  del config  # Part of the hook's signature.
  flags.FLAGS.mark_as_parsed()  # absl flags are read under pytest.
  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_num_cpu_devices', 8)
  jax.config.update('jax_numpy_rank_promotion', 'raise')
  jax.config.update('jax_numpy_dtype_promotion', 'strict')
