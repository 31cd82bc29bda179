"""A headless Chromium for tests of pages, and axe-core for what it shows."""

import collections.abc
import contextlib
import importlib.util
import json
import pathlib
import shutil
import threading
from typing import Any
import unittest

from ooc_jax import explore

_BROWSER = shutil.which('chromium') or shutil.which('chromium-browser')
_DRIVER = shutil.which('chromedriver')
_FLAGS = ('--headless=new', '--no-sandbox', '--disable-gpu',
          '--disable-dev-shm-usage')  # fmt: skip
_GRAVE = ('serious', 'critical')
_RUN = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ['violations']}).then(
    (found) => done(found.violations), (error) => done(String(error)));
"""

needed = unittest.skipUnless(
    _BROWSER and _DRIVER and importlib.util.find_spec('selenium'),
    'Needs Chromium, its driver and selenium (the extra test-web).',
)


def _axe() -> pathlib.Path | None:
  """The file of axe-core, which a package brings along; it is not imported."""
  spec = importlib.util.find_spec('axe_playwright_python')
  folders = spec.submodule_search_locations if spec is not None else None
  return pathlib.Path(folders[0], 'axe.min.js') if folders else None


axe_needed = unittest.skipUnless(
    _axe(), 'Needs axe-core: pip install --no-deps axe-playwright-python.'
)


def start(
    folder: pathlib.Path,
    *,
    width: int = 1200,
    height: int = 900,
    downloads: pathlib.Path | None = None,
) -> Any:
  """A browser whose profile is under `folder`; the caller quits it."""
  from selenium import webdriver

  options = webdriver.ChromeOptions()
  options.binary_location = _BROWSER
  for flag in (
      *_FLAGS,
      f'--window-size={width},{height}',
      f'--user-data-dir={folder / "profile"}',
  ):
    options.add_argument(flag)
  if downloads is not None:
    prefs = {'download.default_directory': str(downloads)}
    options.add_experimental_option('prefs', prefs)
  logs = {'browser': 'ALL', 'performance': 'ALL'}
  options.set_capability('goog:loggingPrefs', logs)
  return webdriver.Chrome(
      options=options, service=webdriver.ChromeService(_DRIVER)
  )


def serve(library: explore.Library) -> str:
  """Serves the pages until the process ends; their address."""
  ready, address = threading.Event(), []

  def started(where):
    address.append(where)
    ready.set()

  threading.Thread(
      target=explore.serve,
      args=(library,),
      kwargs={'started': started},
      daemon=True,
  ).start()
  if not ready.wait(60):
    raise TimeoutError('No page is served after 60 s.')
  return address[0]


def press(driver: Any, *keys: str) -> None:
  """Presses keys one after the other, on what has the focus."""
  from selenium.webdriver import ActionChains

  for key in keys:
    ActionChains(driver).send_keys(key).perform()


@contextlib.contextmanager
def another_page(driver: Any) -> collections.abc.Iterator[None]:
  """Waits until another page is there whole; an error if none comes.

  A key or a choice returns before the browser has begun to leave the page.
  """
  from selenium.webdriver.support import expected_conditions
  from selenium.webdriver.support.ui import WebDriverWait

  before = driver.find_element('css selector', 'html')
  yield
  wait = WebDriverWait(driver, 30, poll_frequency=0.05)
  wait.until(expected_conditions.staleness_of(before))
  wait.until(
      lambda driver: driver.execute_script('return document.readyState')
      == 'complete'
  )


def visit(driver: Any, address: str) -> None:
  """Opens another page, whole.

  On a busy machine `driver.get` may return with the page before.
  """
  with another_page(driver):
    driver.get(address)


def requests(driver: Any) -> list[str]:
  """Addresses that were asked for since this was called last."""
  found = []
  for entry in driver.get_log('performance'):
    message = json.loads(entry['message'])['message']
    if message['method'] == 'Network.requestWillBeSent':
      found.append(message['params']['request']['url'])
  return found


def violations(driver: Any) -> list[str]:
  """What axe-core finds grave on the page that is open."""
  path = _axe()
  assert path is not None
  driver.execute_script(path.read_text())
  found = driver.execute_async_script(_RUN)
  if isinstance(found, str):
    raise RuntimeError(f'axe-core: {found}')
  return [
      f'{x["impact"]} {x["id"]}: {node["html"][:200]}'
      f' ({node.get("failureSummary", "")[:300]})'
      for x in found
      if x['impact'] in _GRAVE
      for node in x['nodes'][:3]
  ]
