/** One metric: its name, what it means, and where its values come from. */
import { type CounterWords, type HistogramLayout, readHistogram } from '../memory/counter-words.js';
import type { MetricView, ReplicaView } from './view.js';

export interface MetricRow {
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
  /** Labels that many rows share: their text is made once. */
  readonly sharedLabels?: Readonly<Record<string, string>>;
  /** Of a histogram's parts. */
  readonly metricName?: string;
}

export interface MetricDefinition {
  /** Without the prefix. */
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** Says unit and meaning. */
  readonly help: string;
  rows(view: MetricView, name: string): Iterable<MetricRow>;
}

type Values = (view: MetricView) => Iterable<MetricRow>;

export function counter(name: string, help: string, rows: Values): MetricDefinition {
  return { name, type: 'counter', help, rows };
}

export function gauge(name: string, help: string, rows: Values): MetricDefinition {
  return { name, type: 'gauge', help, rows };
}

export function histogram(
  name: string,
  help: string,
  layout: HistogramLayout,
  words: (view: MetricView) => Iterable<readonly [CounterWords, Record<string, string>]>,
): MetricDefinition {
  return {
    name,
    type: 'histogram',
    help,
    *rows(view, fullName) {
      for (const [counters, labels] of words(view)) {
        const { upTo, count, sum } = readHistogram(counters, layout);
        const metricName = `${fullName}_bucket`;
        for (const [i, value] of upTo.entries()) {
          yield { metricName, labels: { ...labels, le: layout.bounds[i]! }, value };
        }
        yield { metricName, labels: { ...labels, le: '+Inf' }, value: count };
        yield { metricName: `${fullName}_sum`, labels, value: sum };
        yield { metricName: `${fullName}_count`, labels, value: count };
      }
    },
  };
}

/** Of a gauge that says whether. */
export const yes = (is: boolean): number => (is ? 1 : 0);

const NONE = {};

/** One value, without labels. */
export function single(value: (view: MetricView) => number): Values {
  return (view) => [{ labels: NONE, value: value(view) }];
}

/** One value for each replica. */
export function perReplica(value: (replica: ReplicaView) => number): Values {
  return (view) =>
    view.replicas.map((replica) => ({ labels: linkLabels(view, replica), value: value(replica) }));
}

/** One value for each (space, replica). */
export function perPair(value: (replica: ReplicaView, slot: number) => number): Values {
  return function* (view) {
    for (const replica of view.replicas) {
      for (const { slot, labels } of view.pairsOf(replica)) {
        yield { labels: NONE, sharedLabels: labels, value: value(replica, slot) };
      }
    }
  };
}

/** 1 for the state in force, 0 for the others. */
export function stateSet(
  label: string,
  states: readonly string[],
  labels: Record<string, string>,
  state: string,
): MetricRow[] {
  return states.map((s) => ({ labels: { ...labels, [label]: s }, value: s === state ? 1 : 0 }));
}

export function linkLabels(view: MetricView, replica: ReplicaView): Record<string, string> {
  return { replica_id: replica.facts.replicaId, primary_id: view.facts.nodeId };
}
