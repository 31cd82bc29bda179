"""One of two processes that read a model and its lens together.

Started by `lens_processes_test`: number, port, folder of the model, file for
what was found.
"""

import json
import pathlib
import sys

import jax

_PROCESSES = 2


def main(number: int, port: int, folder: str, out: str) -> None:
  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_num_cpu_devices', 2)
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  jax.distributed.initialize(f'localhost:{port}', _PROCESSES, number)

  from jax.sharding import AxisType
  import numpy as np

  import ooc_jax
  from ooc_jax.checkpoints import _safetensors
  from ooc_jax.circuits import to_host

  read: dict[str, int] = {}
  plain = _safetensors.SafetensorsSource.read

  def counted(self, name, index=None):
    x = plain(self, name, index)
    read[name] = read.get(name, 0) + x.size
    return x

  _safetensors.SafetensorsSource.read = counted
  found = {}
  for shape, precision in (((1, 4), 'screened'), ((2, 2), 'exact')):
    mesh = jax.make_mesh(
        shape, ('feature', 'vocab'), axis_types=(AxisType.Auto,) * 2
    )
    read.clear()
    model = ooc_jax.load_model(folder, mesh=mesh)
    dictionary = ooc_jax.load_dictionary('mlp', model=model, layer=1, mesh=mesh)
    lens = ooc_jax.output_lens(
        model, dictionary, k=6, precision=precision, mesh=mesh
    )
    for name in ('top_ids', 'top_logits', 'bottom_ids', 'entropy', 'std'):
      found[f'{precision} {name}'] = to_host(getattr(lens, name))
    found[f'{precision} read'] = json.dumps(read)
  np.savez(out, **found)


if __name__ == '__main__':
  sys.path.insert(0, str(pathlib.Path(__file__).parents[3]))
  main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
