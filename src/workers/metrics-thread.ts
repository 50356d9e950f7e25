/** The thread that makes the text of a scrape out of the shared words. */
import { parentPort, workerData } from 'node:worker_threads';
import { type Metric, Registry } from 'prom-client';
import { registeredMetrics } from '../shared/metrics/catalog.js';
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

async function answer(asked: ScrapeAsked): Promise<ScrapeAnswer> {
  try {
    view.update(asked);
    return { contentType: registry.contentType, body: await registry.metrics() };
  } catch (error) {
    return { failed: String(error) };
  }
}

parentPort!.on('message', async (asked: ScrapeAsked) => {
  parentPort!.postMessage(await answer(asked));
});
