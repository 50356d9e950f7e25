/** The last day of the node, or its last minutes: five small charts, one above the other. */
import type { RowsJson } from '#src/shared/metrics/rings.js';
import { Chart, type ChartProps } from './chart.js';
import { niceTop } from './charts.js';
import { type ComponentChild, h } from './preact.js';
import type { Choose } from './spaces.js';
import type { Choice, Over } from './view.js';
import { bytes, count, short, span } from './words.js';

const HEIGHT = 118;
const MINUTE = 60_000;
const WINDOWS_MS = [1, 2, 5, 10, 30, 60, 180, 360, 720, 1_440].map((minutes) => minutes * MINUTE);
const NAMES: Readonly<Record<Over, string>> = { minutes: '5 minutes', day: '24 hours' };

export function day(rows: RowsJson | undefined, over: Over, choose: Choose): ComponentChild {
  const chip = (one: Over): ComponentChild =>
    h(
      'button',
      {
        key: one,
        type: 'button',
        class: 'chip',
        'aria-pressed': over === one,
        onClick: () => choose({ over: one } satisfies Partial<Choice>),
      },
      NAMES[one],
    );
  return h(
    'section',
    { class: 'panel day', 'aria-labelledby': 'day' },
    h(
      'div',
      { class: 'day-head' },
      h('h2', { id: 'day' }, 'This node over time'),
      h(
        'div',
        { class: 'chips', role: 'group', 'aria-label': 'Over the last' },
        chip('minutes'),
        chip('day'),
      ),
    ),
    rows && rows.agoMs.length > 0
      ? h('div', { class: 'day-charts' }, chartsOf(rows))
      : h('p', { class: 'quiet none' }, 'Nothing is known yet.'),
  );
}

function chartsOf(rows: RowsJson): ComponentChild {
  const { agoMs, stepMs } = rows;
  const oldest = agoMs[0] ?? 0;
  const windowMs = WINDOWS_MS.find((ms) => oldest <= ms) ?? rows.keptMs;
  const chart = (
    title: string,
    values: readonly (number | null)[],
    label: (value: number) => string,
    say: (value: number) => string,
    least: number,
    isBinary = false,
  ): ComponentChild | undefined => {
    const known = values.filter((value) => value !== null);
    // Without replicas there is no lag; not every file system says how much room it has.
    if (known.length === 0) return undefined;
    const most = Math.max(least, ...known);
    const top = isBinary ? binaryTop(most) : niceTop(most);
    const props: ChartProps = {
      title,
      note: '',
      agoMs,
      windowMs,
      height: HEIGHT,
      gapMs: 3 * Math.max(stepMs, 5_000),
      series: [{ name: 'this node', values, line: 1, isFilled: true }],
      scale: (value) => value / top,
      ticks: [0, 0.5, 1].map((part) => ({ value: part * top, label: label(part * top) })),
      say,
    };
    return h(Chart, { key: title, ...props });
  };
  const perSecond = (value: number): string => `${count(value)}/s`;
  return [
    chart('Entries a second', rows.entriesPerSecond, short, perSecond, 10),
    chart('Bytes a second', rows.bytesPerSecond, ofBytes, (n) => `${bytes(n)}/s`, 1_024, true),
    chart('Worst lag', rows.worstLagMs, span, span, 10),
    chart('fdatasync, 99 of 100 within', rows.fsyncP99Ms, span, span, 1),
    chart('Room on the disk', rows.diskFreeBytes, ofBytes, bytes, 1_024, true),
  ];
}

/** As short as an axis has room for: 512 K, 64 G. */
function ofBytes(value: number): string {
  return bytes(value).replace('.0 ', ' ').replace('iB', '');
}

/** A power of two times 1, so that half of it is a round number of bytes, too. */
function binaryTop(value: number): number {
  return 2 ** Math.ceil(Math.log2(value));
}
