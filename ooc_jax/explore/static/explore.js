// Keyboard, theme, and what the mouse shows. Pages work without it.
'use strict';

const THEME = 'ooc_jax.theme';

// Before the body is drawn, so that nothing flashes.
try {
  const theme = localStorage.getItem(THEME);
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // A browser that keeps nothing follows the system.
}

function otherTheme() {
  const root = document.documentElement;
  const system = matchMedia('(prefers-color-scheme: dark)').matches;
  const now = root.dataset.theme || (system ? 'dark' : 'light');
  root.dataset.theme = now === 'dark' ? 'light' : 'dark';
  try {
    localStorage.setItem(THEME, root.dataset.theme);
  } catch {
    // It lasts as long as the page, then.
  }
}

function showTip(tip, target, x, y) {
  tip.textContent = target.dataset.tip;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = Math.min(x + 14, innerWidth - box.width - 8);
  const below = y + 18 + box.height < innerHeight;
  tip.style.left = `${Math.max(left, 8)}px`;
  tip.style.top = `${below ? y + 18 : y - box.height - 10}px`;
}

function select(step) {
  const rows = [...document.querySelectorAll('[data-row]')];
  if (!rows.length) return;
  const now = rows.findIndex((row) => row.ariaSelected === 'true');
  const next = now < 0 ? (step > 0 ? 0 : rows.length - 1)
    : Math.min(Math.max(now + step, 0), rows.length - 1);
  rows.forEach((row, i) => {
    if (i === next) row.setAttribute('aria-selected', 'true');
    else row.removeAttribute('aria-selected');
  });
  rows[next].scrollIntoView({block: 'nearest'});
}

function follow(selector) {
  const link = document.querySelector(selector);
  if (link) link.click();
  return Boolean(link);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches('input, select, textarea');
  if (event.key === 'Escape' && typing) event.target.blur();
  if (typing || document.querySelector('dialog[open]')) return;
  const keys = {
    j: () => select(1),
    k: () => select(-1),
    ArrowDown: () => document.querySelector('[aria-selected]') && select(1),
    ArrowUp: () => document.querySelector('[aria-selected]') && select(-1),
    ArrowLeft: () => follow('a[rel=prev]'),
    ArrowRight: () => follow('a[rel=next]'),
    Enter: () => event.target === document.body
      && follow('[aria-selected=true] a'),
    '/': () => {
      const box = document.querySelector('#find');
      if (box) box.focus(), box.select();
      return box;
    },
    '?': () => document.querySelector('#help').showModal(),
  };
  const action = keys[event.key];
  // What did nothing is left to the browser: arrows scroll.
  if (action && action() !== null && event.key !== 'Enter') {
    if (!event.key.startsWith('Arrow')) event.preventDefault();
    else if (event.key.match(/Up|Down/) && document.querySelector('[aria-selected]')) {
      event.preventDefault();
    }
  }
}

document.addEventListener('keydown', onKey);
document.addEventListener('DOMContentLoaded', () => {
  const tip = document.querySelector('#tip');
  document.querySelector('#theme').addEventListener('click', otherTheme);
  document.querySelector('#keys').addEventListener('click', () => {
    document.querySelector('#help').showModal();
  });
  document.addEventListener('mousemove', (event) => {
    const target = event.target.closest('[data-tip]');
    if (target) showTip(tip, target, event.clientX, event.clientY);
    else tip.hidden = true;
  });
  document.addEventListener('focusin', (event) => {
    const target = event.target.querySelector?.('[data-tip]');
    if (!target || event.target.id === 'main') return;
    if (!event.target.matches('svg a')) return;
    const box = target.getBoundingClientRect();
    showTip(tip, target, box.right, box.top);
  });
  // A choice applies at once; a number waits for Enter.
  for (const choice of document.querySelectorAll('#filters select')) {
    choice.addEventListener('change', () => choice.form.requestSubmit());
  }
});
