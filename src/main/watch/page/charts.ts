/** The two charts: how far replicas are behind, and how many entries move. */
import type { HistoryJson } from '#src/main/watch/history.js';
import { Chart, type Series } from './chart.js';
import { type ComponentChild, h } from './preact.js';
import { count, short, span } from './words.js';

const LEAST_WINDOW_MS = 2 * 60_000;
const WINDOW_MS = 10 * 60_000;
/** More lines would be none; the worst are shown. */
const REPLICAS_SHOWN = 5;

const LAG_TICKS = [0, 1, 10, 100, 1_000, 10_000, 60_000, 600_000, 3_600_000, 86_400_000];
const LAG_LABELS = [
  '0',
  '1 ms',
  '10 ms',
  '100 ms',
  '1 s',
  '10 s',
  '1 min',
  '10 min',
  '1 h',
  '1 day',
];

/** Of a node without replicas the small charts say as much. */
export function charts(history: HistoryJson, alertMs: number): ComponentChild | undefined {
  const { agoMs } = history;
  if (history.replicas.length === 0) return undefined;
  // A chart that has just begun is not nine parts empty.
  const oldest = agoMs[0] ?? 0;
  const windowMs =
    [LEAST_WINDOW_MS, WINDOW_MS / 2, WINDOW_MS].find((ms) => oldest <= ms) ?? WINDOW_MS;
  const replicas = shown(history.replicas);
  const of = (values: (replica: HistoryJson['replicas'][number]) => Series['values']): Series[] =>
    replicas.map((replica, i) => ({
      name: replica.replicaId,
      values: values(replica),
      line: i + 1,
    }));
  const rates: Series[] = [
    { name: 'here', values: history.appended, line: 0, isFilled: true },
    ...of(({ acked }) => acked),
  ];
  const moved = rates.flatMap(({ values }) => values.filter((value) => value !== null));
  const top = niceTop(Math.max(10, ...moved));
  return h(
    'section',
    { class: 'charts', 'aria-label': 'The last minutes' },
    h(
      'div',
      { class: 'panel' },
      h(Chart, {
        title: 'Lag',
        note: 'the worst of each replica’s spaces',
        agoMs,
        windowMs,
        ...lagScale(
          of(({ lagMs }) => lagMs),
          alertMs,
        ),
      }),
    ),
    h(
      'div',
      { class: 'panel' },
      h(Chart, {
        title: 'Entries a second',
        note: 'durable here, and flushed on each replica',
        agoMs,
        windowMs,
        series: rates,
        scale: (value) => value / top,
        ticks: [0, 0.25, 0.5, 0.75, 1].map((part) => ({
          value: part * top,
          label: short(part * top),
        })),
        say: (value) => `${count(value)}/s`,
      }),
    ),
  );
}

/** Logarithmic, from a tenth of a millisecond up: the limits are always at their places. */
function lagScale(series: readonly Series[], alertMs: number) {
  const known = series.flatMap(({ values }) => values.filter((value) => value !== null));
  const most = Math.max(2 * alertMs, ...known);
  const ticks = LAG_TICKS.filter((value) => value <= most);
  const next = LAG_TICKS[ticks.length];
  if (next !== undefined) ticks.push(next);
  const logOf = (value: number): number => Math.log10(1 + 10 * value);
  const height = logOf(ticks.at(-1)!);
  return {
    series,
    scale: (value: number) => logOf(value) / height,
    ticks: ticks.map((value, i) => ({ value, label: LAG_LABELS[i]! })),
    say: (value: number) => span(value),
    limit: { value: alertMs, label: `degraded from ${span(alertMs)}` },
  };
}

function shown(replicas: HistoryJson['replicas']): HistoryJson['replicas'] {
  if (replicas.length <= REPLICAS_SHOWN) return replicas;
  const worst = ({ lagMs }: HistoryJson['replicas'][number]): number =>
    lagMs.at(-1) ?? Number.POSITIVE_INFINITY;
  return [...replicas].sort((a, b) => worst(b) - worst(a)).slice(0, REPLICAS_SHOWN);
}

/** 1, 2, 4 or 8 times a power of ten, so that quarters are round. */
export function niceTop(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 8, 10].map((step) => step * power).find((top) => top >= value) ?? value;
}
