/** Every metric, as prom-client’s registry takes metrics: any thread may hold the registry. */

import { COORDINATOR_METRICS } from './coordinator-metrics.js';
import type { MetricDefinition, MetricRow } from './definition.js';
import { LOG_METRICS } from './log-metrics.js';
import { REPLICATION_METRICS } from './replication-metrics.js';
import type { MetricView } from './view.js';

export const METRICS: readonly MetricDefinition[] = [
  ...LOG_METRICS,
  ...REPLICATION_METRICS,
  ...COORDINATOR_METRICS,
];

/** What a registry of prom-client asks of a metric. */
export interface RegisteredMetric {
  /** A registry of the OpenMetrics kind changes it. */
  name: string;
  readonly help: string;
  readonly type: MetricDefinition['type'];
  readonly aggregator: 'sum';
  get(): Promise<Omit<RegisteredMetric, 'get' | 'reset'> & { values: readonly MetricRow[] }>;
  reset(): void;
}

/** @param view as of now; asked for each metric of a scrape */
export function registeredMetrics(
  prefix: string,
  view: () => Promise<MetricView>,
): RegisteredMetric[] {
  return METRICS.map((definition) => ({
    name: `${prefix}${definition.name}`,
    help: definition.help,
    type: definition.type,
    aggregator: 'sum',
    async get() {
      const { name, help, type, aggregator } = this;
      return { name, help, type, aggregator, values: [...definition.rows(await view(), name)] };
    },
    // The words are the truth, and they are not a registry’s to clear.
    reset: () => undefined,
  }));
}
