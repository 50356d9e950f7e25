/** A state in word, shape and colour: never in colour alone. */
import type { HealthWord } from '#src/main/watch/health/words.js';
import { type ComponentChild, h } from './preact.js';
import { capital } from './words.js';

/** `unknown`: the node does not answer. */
export type ShownHealth = HealthWord | 'unknown';

const SHAPES: Readonly<Record<ShownHealth, readonly string[]>> = {
  healthy: ['M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Z', 'm5 8.3 2.1 2.1L11.2 6'],
  lagging: ['M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Z', 'M8 4.6V8l2.4 1.6'],
  degraded: ['M8 1.8 15 14H1Z', 'M8 6.4v3.4M8 11.9v.2'],
  failed: ['M5.2 1.5h5.6l3.7 3.7v5.6l-3.7 3.7H5.2l-3.7-3.7V5.2Z', 'm5.6 5.6 4.8 4.8m0-4.8-4.8 4.8'],
  corrupt: ['M8 .9 15.1 8 8 15.1.9 8Z', 'M8 4.8v3.6M8 10.9v.2'],
  unknown: [
    'M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Z',
    'M6.2 6.3a1.9 1.9 0 1 1 2.6 1.8c-.5.2-.8.6-.8 1.1M8 11.4v.2',
  ],
};

export function healthIcon(health: ShownHealth): ComponentChild {
  const [body, mark] = SHAPES[health];
  return h(
    'svg',
    { class: `icon ${health}`, viewBox: '0 0 16 16', 'aria-hidden': 'true', focusable: 'false' },
    h('path', { class: 'icon-body', d: body! }),
    h('path', { class: 'icon-mark', d: mark! }),
  );
}

/** @param word what it says, where that is not the word of its colour */
export function healthBadge(health: ShownHealth, more = '', word: string = health): ComponentChild {
  return h('span', { class: `badge ${health} ${more}` }, healthIcon(health), capital(word));
}
