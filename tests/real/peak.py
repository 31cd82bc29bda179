"""Runs a script and writes down how much memory it held, in bytes.

`python tests/real/peak.py FILE SCRIPT [ARGUMENT ...]`; FILE says the most that
was held until a file of that name was put in its place, and '' until the end. A
process says it of itself: ru_maxrss of a child begins at what its parent held
when it forked.
"""

import json
import pathlib
import runpy
import sys


def _held() -> int:
  status = pathlib.Path('/proc/self/status').read_text()
  return 1024 * int(status.split('VmHWM:')[1].split()[0])


def main(written: str, script: str) -> None:
  held: dict[str, int] = {}

  def hook(event, args):
    if event == 'os.rename':
      held[pathlib.Path(args[1]).name] = _held()

  sys.addaudithook(hook)
  sys.path[0] = str(pathlib.Path(script).parent)
  try:
    runpy.run_path(script, run_name='__main__')
  finally:
    held[''] = _held()
    pathlib.Path(written).write_text(json.dumps(held))


if __name__ == '__main__':
  _, out, *sys.argv = sys.argv
  main(out, sys.argv[0])
