/** What is ready to deploy, against what a node really tells. */
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Node } from '#src/main/index.js';
import { METRICS } from '#src/shared/metrics/catalog.js';
import { Authority } from '../support/certificates.js';
import { makeFolder, openSmall, removeFolder } from '../support/cluster.js';
import { samplesOf } from '../support/exposition.js';

const DEPLOY = path.join(import.meta.dirname, '../../deploy');
const RULES = path.join(DEPLOY, 'prometheus/alerts.yml');
const DASHBOARD = path.join(DEPLOY, 'grafana/engram-wal.json');

let folder: string;
let a: Node;
let b: Node;
let scrapes: string;

beforeAll(async () => {
  folder = makeFolder();
  const authority = await Authority.make(folder);
  b = await openSmall(path.join(folder, 'b'), 'b', {
    listen: { host: '127.0.0.1', port: 0 },
    tls: await authority.tlsOf('b'),
    http: { port: 0 },
  });
  a = await openSmall(path.join(folder, 'a'), 'a', {
    replicas: [{ nodeId: 'b', ...b.address! }],
    tls: await authority.tlsOf('a'),
    http: { port: 0 },
  });
  const space = await a.openSpace('a "space" with \\ and \\n in its name');
  for (let n = 0; n < 20; n++) {
    await space.append(1, Buffer.alloc(100), { ack: { replicas: 1 } });
  }
  const texts = [a, b].map(async (node) => {
    const { host, port } = node.httpAddress!;
    return await (await fetch(`http://${host}:${port}/metrics`)).text();
  });
  scrapes = (await Promise.all(texts)).join('\n');
});

afterAll(async () => {
  await a?.close();
  await b?.close();
  if (folder) removeFolder(folder);
});

/** Names of metrics as text names them, and of the parts of histograms. */
function namedIn(text: string): string[] {
  return [...new Set(text.match(/\bengram_[a-z_]+\b/g) ?? [])];
}

interface Panel {
  readonly id: number;
  readonly title: string;
  readonly type: string;
  readonly targets?: readonly { readonly expr: string }[];
}
const dashboard = JSON.parse(fs.readFileSync(DASHBOARD, 'utf8')) as {
  panels: Panel[];
  templating: { list: { name: string; definition?: string }[] };
};
const queries = dashboard.panels.flatMap((p) => (p.targets ?? []).map((t) => t.expr));

describe('the dashboard and the rules', () => {
  test('name metrics that a real scrape has', () => {
    const there = new Set(samplesOf(scrapes).map((s) => s.name));
    const rules = fs.readFileSync(RULES, 'utf8');
    const named = namedIn(`${rules} ${JSON.stringify(dashboard)}`);
    expect(named.length).toBeGreaterThan(40);
    expect(named.filter((name) => !there.has(name))).toEqual([]);
  });

  test('the dashboard shows every metric, with labels that it has', () => {
    const shown = namedIn(queries.join(' '));
    const left = METRICS.map(({ name }) => `engram_${name}`).filter(
      (name) => !shown.some((s) => s === name || s === `${name}_bucket`),
    );
    expect(left).toEqual([]);
    const labels = new Map<string, Set<string>>();
    for (const sample of samplesOf(scrapes)) {
      const known = labels.get(sample.name) ?? new Set(['instance']);
      for (const label of Object.keys(sample.labels)) known.add(label);
      labels.set(sample.name, known);
    }
    for (const query of queries) {
      const known = namedIn(query).flatMap((name) => [...labels.get(name)!]);
      for (const [, by] of query.matchAll(/by \(([^)]*)\)/g)) {
        for (const label of by!.split(', ')) expect(known, query).toContain(label);
      }
    }
  });

  test('the handbook has every metric and every alert', () => {
    const handbook = fs.readFileSync(path.join(DEPLOY, '../docs/METRICS.md'), 'utf8');
    const metrics = METRICS.map(({ name }) => `\`engram_${name}\``);
    const rules = fs.readFileSync(RULES, 'utf8');
    const alerts = [...rules.matchAll(/alert: (\S+)/g)].map((m) => m[1]!);
    expect([...metrics, ...alerts].filter((name) => !handbook.includes(name))).toEqual([]);
  });

  test('the dashboard has no panel without a query, and no two of one id', () => {
    const ids = dashboard.panels.map((p) => p.id);
    expect(new Set(ids).size).toBe(ids.length);
    for (const panel of dashboard.panels.filter((p) => p.type !== 'row')) {
      expect(panel.targets?.length, panel.title).toBeGreaterThan(0);
    }
  });
});
