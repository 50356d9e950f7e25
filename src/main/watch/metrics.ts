/**
 * Metrics in the text format of Prometheus. The words are in shared memory; the text is made by a
 * thread that begins with the first scrape, so that no scrape holds up an append. Only with a
 * registry of the host's own it is made here, when that registry asks.
 */
import type { Worker } from 'node:worker_threads';
import { failure } from '../../shared/errors.js';
import { SCRAPE_DEADLINE_MS } from '../../shared/limits.js';
import { registeredMetrics } from '../../shared/metrics/catalog.js';
import {
  type FormatterStart,
  type MetricPlaces,
  MetricView,
  type ScrapeAnswer,
  type ScrapeAsked,
} from '../../shared/metrics/view.js';
import type { MetricsRegistry } from '../options/options.js';
import { requirePackage } from '../runtime/packages.js';
import { startThread } from '../runtime/threads.js';
import { type MetricParts, MetricPlacesOf, metricFacts } from './metric-facts.js';

export interface Scrape {
  readonly contentType: string;
  readonly body: string;
}

interface Asked {
  readonly resolve: (scrape: Scrape) => void;
  readonly reject: (error: Error) => void;
}

export class Metrics {
  readonly #parts: MetricParts;
  readonly #counters: SharedArrayBuffer;
  readonly #places: MetricPlacesOf;
  readonly #registry: MetricsRegistry | undefined;
  readonly #registered: string[] = [];
  #worker: Worker | undefined;
  #told: MetricPlaces | undefined;
  #asked: Asked | undefined;
  /** Whoever asks while a scrape is under way gets the same one. */
  #running: Promise<Scrape> | undefined;
  #isClosed = false;

  constructor(parts: MetricParts, counters: SharedArrayBuffer) {
    this.#parts = parts;
    this.#counters = counters;
    this.#places = new MetricPlacesOf(parts.spaces, parts.replication);
    this.#registry = parts.config.metricsRegistry;
    if (this.#registry) this.#register(this.#registry);
  }

  /**
   * All metrics as of now. Rejects PackageMissing, WorkerLost, Closed, or what the host's registry
   * rejects.
   */
  scrape(): Promise<Scrape> {
    this.#running ??= this.#scrape().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #scrape(): Promise<Scrape> {
    if (this.#isClosed) throw failure('Closed', 'metrics of a closed node');
    if (this.#registry) {
      const body = await this.#registry.metrics();
      return { contentType: this.#registry.contentType, body };
    }
    const facts = await metricFacts(this.#parts);
    const { now } = this.#places;
    this.#worker ??= this.#start();
    const places = now === this.#told ? undefined : now;
    this.#told = now;
    return await this.#ask(this.#worker, { facts, places });
  }

  #start(): Worker {
    requirePackage('prom-client', 'a scrape');
    const start: FormatterStart = {
      prefix: this.#parts.config.metricsPrefix,
      counters: this.#counters,
    };
    const worker = startThread('metrics-thread', 'metrics', start);
    worker.unref();
    worker.on('message', (answer: ScrapeAnswer) => {
      if ('failed' in answer) this.#failed(answer.failed);
      else this.#take()?.resolve(answer);
    });
    let reason = 'it ended by itself';
    worker.on('error', (error) => {
      reason = error.message;
    });
    worker.on('exit', () => {
      // The next scrape starts another one, which has to be told everything.
      if (this.#worker === worker) this.#worker = undefined;
      this.#told = undefined;
      this.#failed(reason);
    });
    return worker;
  }

  async #ask(worker: Worker, asked: ScrapeAsked): Promise<Scrape> {
    let timer: NodeJS.Timeout | undefined;
    worker.ref();
    try {
      return await new Promise<Scrape>((resolve, reject) => {
        this.#asked = { resolve, reject };
        timer = setTimeout(() => void worker.terminate(), SCRAPE_DEADLINE_MS);
        worker.postMessage(asked);
      });
    } finally {
      clearTimeout(timer);
      worker.unref();
    }
  }

  #take(): Asked | undefined {
    const asked = this.#asked;
    this.#asked = undefined;
    return asked;
  }

  #failed(reason: string): void {
    this.#take()?.reject(failure('WorkerLost', `the thread that formats metrics: ${reason}`));
  }

  /** Throws Configuration where one of the names is taken. */
  #register(registry: MetricsRegistry): void {
    const view = new MetricView(this.#counters);
    let fresh: Promise<MetricView> | undefined;
    const update = async (): Promise<MetricView> => {
      view.update({ facts: await metricFacts(this.#parts), places: this.#places.now });
      return view;
    };
    // A registry asks for its metrics one by one: they are all as of the same moment.
    const asOfNow = (): Promise<MetricView> => {
      fresh ??= update().finally(() =>
        setImmediate(() => {
          fresh = undefined;
        }),
      );
      return fresh;
    };
    for (const metric of registeredMetrics(this.#parts.config.metricsPrefix, asOfNow)) {
      try {
        registry.registerMetric(metric as never);
      } catch (cause) {
        this.#unregister();
        const found = `metricsRegistry refuses ${metric.name}: ${(cause as Error).message}`;
        throw failure('Configuration', found, { cause });
      }
      this.#registered.push(metric.name);
    }
  }

  #unregister(): void {
    for (const name of this.#registered.splice(0)) {
      try {
        this.#registry?.removeSingleMetric(name);
      } catch {
        // It is the host's, and nothing here depends on it.
      }
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#unregister();
    await this.#running?.catch(() => undefined);
    await this.#worker?.terminate();
  }
}
