/** The thread that makes the text of a scrape out of the shared words. */
import { parentPort, workerData } from 'node:worker_threads';
import { type Metric, Registry } from 'prom-client';
import { registeredMetrics } from '../shared/metrics/catalog.js';
import { piecesOf } from '../shared/metrics/pieces.js';
import {
  type FormatterStart,
  MetricView,
  type ScrapeAnswer,
  type ScrapeAsked,
} from '../shared/metrics/view.js';

const { prefix, counters } = workerData as FormatterStart;
const view = new MetricView(counters);
const registry = new Registry();
for (const metric of registeredMetrics(prefix, async () => view)) {
  registry.registerMetric(metric as unknown as Metric);
}

const tell = (answer: ScrapeAnswer, moved: ArrayBuffer[] = []): void => {
  parentPort!.postMessage(answer, moved);
};

async function answer(asked: ScrapeAsked): Promise<void> {
  view.update(asked);
  const names = registry.getMetricsAsArray().map(({ name }) => name);
  const pieces = piecesOf(names, (name) => registry.getSingleMetricAsString(name));
  for await (const piece of pieces) tell({ piece }, [piece.buffer]);
  tell({ contentType: registry.contentType });
}

parentPort!.on('message', (asked: ScrapeAsked) => {
  answer(asked).catch((error) => tell({ failed: String(error) }));
});
