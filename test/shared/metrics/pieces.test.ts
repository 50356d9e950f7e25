import { Gauge, Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { piecesOf } from '#src/shared/metrics/pieces.js';

const MIB = 2 ** 20;

/** So many gauges, of so many rows each. */
function registryOf(gauges: number, rows: number): Registry {
  const registry = new Registry();
  for (let g = 0; g < gauges; g++) {
    const name = `gauge_${g}`;
    const gauge = new Gauge({ name, help: 'é', labelNames: ['n'], registers: [registry] });
    for (let n = 0; n < rows; n++) gauge.set({ n: `${'x'.repeat(80)}${n}` }, n);
  }
  return registry;
}

const namesOf = (registry: Registry): string[] =>
  registry.getMetricsAsArray().map(({ name }) => name);

test.each([
  [0, 0],
  [1, 3],
  [40, 10],
  [5, 15_000],
])('%i metrics of %i rows are the text that their registry makes', async (gauges, rows) => {
  const registry = registryOf(gauges, rows);
  const pieces: Uint8Array[] = [];
  const textOf = (name: string): Promise<string> => registry.getSingleMetricAsString(name);
  for await (const piece of piecesOf(namesOf(registry), textOf)) pieces.push(piece);
  const whole = gauges > 0 ? await registry.metrics() : '';
  expect(Buffer.concat(pieces).toString() === whole).toBe(true);
  // What is small goes together, what is large does not wait for all of it.
  expect(pieces.length).toBeLessThanOrEqual(Math.ceil(whole.length / MIB));
  expect(pieces.length).toBeGreaterThanOrEqual(Math.floor(whole.length / (3 * MIB)));
});

test('the next metric is made when the piece before it was taken', async () => {
  const made: string[] = [];
  const textOf = async (name: string): Promise<string> => {
    made.push(name);
    return 'x'.repeat(2 * MIB);
  };
  const pieces = piecesOf(['a', 'b', 'c'], textOf);
  await pieces.next();
  expect(made).toEqual(['a']);
  await pieces.next();
  expect(made).toEqual(['a', 'b']);
});
