/**
 * Metrics in the text format of Prometheus. The words are in shared memory; the text is made by a
 * thread that begins with the first scrape, so that no scrape holds up an append. Only with a
 * registry of the host's own it is made here, when that registry asks.
 */
import type { Worker } from 'node:worker_threads';
import { failure } from '../../shared/errors.js';
import { SCRAPE_SILENCE_MS } from '../../shared/limits.js';
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

/** The text as UTF-8, in the pieces in which it was made. */
export interface ScrapePieces {
  readonly contentType: string;
  readonly pieces: readonly Uint8Array[];
}

interface Asked {
  readonly pieces: Uint8Array[];
  /** It gives up what makes nothing: each piece begins it anew. */
  readonly deadline: NodeJS.Timeout;
  readonly resolve: (scrape: ScrapePieces) => void;
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
  #running: Promise<ScrapePieces> | undefined;
  #texting: Promise<Scrape> | undefined;
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
  scrape(): Promise<ScrapePieces> {
    this.#running ??= this.#scrape().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  /** The same as one text, for a host that serves it itself. */
  text(): Promise<Scrape> {
    this.#texting ??= this.scrape()
      .then(({ contentType, pieces }) => ({ contentType, body: Buffer.concat(pieces).toString() }))
      .finally(() => {
        this.#texting = undefined;
      });
    return this.#texting;
  }

  async #scrape(): Promise<ScrapePieces> {
    if (this.#isClosed) throw failure('Closed', 'metrics of a closed node');
    if (this.#registry) {
      const body = await this.#registry.metrics();
      return { contentType: this.#registry.contentType, pieces: [Buffer.from(body)] };
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
      else if ('piece' in answer) this.#came(answer.piece);
      else this.#whole(answer.contentType);
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

  async #ask(worker: Worker, asked: ScrapeAsked): Promise<ScrapePieces> {
    const deadline = setTimeout(() => void worker.terminate(), SCRAPE_SILENCE_MS);
    worker.ref();
    try {
      return await new Promise<ScrapePieces>((resolve, reject) => {
        this.#asked = { pieces: [], deadline, resolve, reject };
        worker.postMessage(asked);
      });
    } finally {
      clearTimeout(deadline);
      worker.unref();
    }
  }

  #came(piece: Uint8Array): void {
    this.#asked?.pieces.push(piece);
    this.#asked?.deadline.refresh();
  }

  #whole(contentType: string): void {
    const asked = this.#take();
    asked?.resolve({ contentType, pieces: asked.pieces });
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
