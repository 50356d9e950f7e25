/** The whole cluster at a glance: `status --cluster` and /cluster, on any of its nodes. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { nodePlatform } from '#src/main/node/machine.js';
import { PeerClient } from '#src/main/peer/client.js';
import { Cluster, type ClusterParts } from '#src/main/watch/cluster/cluster.js';
import type { ClusterJson, MemberJson } from '#src/main/watch/cluster/cluster-json.js';
import { pageOf, takeGlance } from '#src/main/watch/cluster/glance.js';
import { CLUSTER_MEMBERS_MAX, GLANCE_LINKS_MAX } from '#src/shared/limits.js';
import {
  FEATURE_GLANCE,
  FEATURE_PEER_CALL,
  type Glance,
  type GlanceLink,
} from '#src/shared/wire/peer-frames.js';
import type { Frame, PlainFrame } from '#src/shared/wire/protocol.js';
import { at, EachTest } from '../../support/cluster.js';
import { type Ended, startCommand } from '../../support/command-line.js';
import { freePort } from '../../support/etcd.js';
import { WireReplica } from '../../support/wire-replica.js';

const each = new EachTest();
const LISTEN = { host: '127.0.0.1', port: 0 };
/** What a person waits for, at most. */
const DEADLINE_MS = 2_000;

const GLANCE: Glance = {
  version: '9.9.9',
  health: 'healthy',
  problems: 0,
  worst: '',
  uptimeMs: 1_000,
  spaces: 1,
  led: 0,
  url: '',
  links: [],
};
const LINK: GlanceLink = {
  ...{ replicaId: 'a', state: 'streaming', spaces: 1, lagMs: 5, lagEntries: 2, lagBytes: 100 },
  heardAgoMs: 10,
};
const LONG: GlanceLink = { ...LINK, replicaId: 'r'.repeat(255), state: 's'.repeat(255) };

async function clusterOf(url: string, space?: string): Promise<ClusterJson> {
  const asked = space === undefined ? '' : `?space=${encodeURIComponent(space)}`;
  const answer = await fetch(`${url}/cluster${asked}`);
  return (await answer.json()) as ClusterJson;
}

/** Asks until it is as wanted: what is shown may be a second old. */
async function seen(url: string, is: (cluster: ClusterJson) => boolean): Promise<ClusterJson> {
  const deadlineMs = performance.now() + 30_000;
  for (;;) {
    const cluster = await clusterOf(url);
    if (is(cluster)) return cluster;
    if (performance.now() > deadlineMs) throw new Error(JSON.stringify(cluster));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const memberOf = ({ members }: ClusterJson, nodeId: string): MemberJson =>
  members.find((member) => member.nodeId === nodeId)!;

// --- processes -----------------------------------------------------------------------------

interface Served {
  readonly url: string;
  kill(signal: NodeJS.Signals): Promise<void>;
}

/** Three nodes of `serve` that name each other; node-a leads two spaces. */
async function three(): Promise<Record<'a' | 'b' | 'c', Served>> {
  const ids = ['a', 'b', 'c'] as const;
  const ports = new Map<string, number>();
  for (const id of ids) ports.set(id, await freePort());
  const start = async (id: 'a' | 'b' | 'c'): Promise<Served> => {
    const http = await freePort();
    const replicas = ids
      .filter((other) => other !== id)
      .map((other) => at(`node-${other}`, ports.get(other)!));
    const own = { nodeId: `node-${id}`, clusterId: 'prod', dataDir: id, replicas };
    const listen = { host: '127.0.0.1', port: ports.get(id)! };
    const led = ['tenant-a', 'tenant-b'].map((name) => ({ name, lead: true }));
    const spaces = id === 'a' ? led : [];
    const file = path.join(each.folder, `${id}.json`);
    fs.writeFileSync(file, JSON.stringify({ ...own, listen, http: { port: http }, spaces }));
    const { child, ended } = startCommand(each.folder, ['serve', '--config', file]);
    const kill = async (signal: NodeJS.Signals): Promise<void> => {
      child.kill(signal);
      if (signal === 'SIGKILL') await ended;
    };
    each.finally(() => kill('SIGKILL'));
    let said = '';
    await new Promise<void>((resolve) => {
      child.stdout!.on('data', (chunk) => {
        said += chunk;
        if (said.includes('"event":"serving"')) resolve();
      });
    });
    return { url: `http://127.0.0.1:${http}`, kill };
  };
  const [a, b, c] = await Promise.all(ids.map(start));
  return { a: a!, b: b!, c: c! };
}

function status({ url }: Served, ...more: string[]): Promise<Ended> {
  const { ended } = startCommand(each.folder, ['status', '--cluster', '--url', url, ...more]);
  return ended;
}

describe('three nodes', () => {
  test('each tells of all; one that is killed is away soon, and since when', async () => {
    const { a, b, c } = await three();
    const calm = await seen(b.url, ({ health, lag, members }) => {
      return health === 'healthy' && lag.length === 2 && members.every((m) => m.spaces === 2);
    });
    expect(calm).toMatchObject({ clusterId: 'prod', nodeId: 'node-b', todo: 'nothing', more: 0 });
    expect(calm.members).toMatchObject([
      { nodeId: 'node-a', state: 'answers', todo: 'nothing', led: 2, url: `${a.url}/` },
      { nodeId: 'node-b', state: 'self', todo: 'nothing', led: 0, url: `${b.url}/` },
      { nodeId: 'node-c', state: 'answers', todo: 'nothing', led: 0, url: `${c.url}/` },
    ]);
    const { version } = JSON.parse(
      fs.readFileSync(path.join(import.meta.dirname, '../../../package.json'), 'utf8'),
    ) as { version: string };
    for (const member of calm.members) {
      expect(member.version).toBe(version);
      expect(member.uptimeMs).toBeGreaterThan(0);
    }
    expect(calm.lag).toMatchObject([
      { leader: 'node-a', member: 'node-b', spaces: 2, lagMs: 0, lagEntries: 0, lagBytes: 0 },
      { leader: 'node-a', member: 'node-c', spaces: 2, lagMs: 0, lagEntries: 0, lagBytes: 0 },
    ]);
    const told = await status(b);
    expect(told).toMatchObject({ code: 0, stderr: '' });
    expect(told.stdout).toMatch(/^prod: HEALTHY, nothing to do\n {2}3 members, as node-b sees it/);
    expect(told.stdout).toMatch(/│ node-a │ nothing │ for .* │ 2 .*│ http:\/\/127\.0\.0\.1:/);

    const killedMs = performance.now();
    await c.kill('SIGKILL');
    const askedMs = performance.now();
    const away = await seen(b.url, (cluster) => memberOf(cluster, 'node-c').state === 'away');
    expect(performance.now() - askedMs).toBeLessThan(DEADLINE_MS + 1_000);
    const gone = memberOf(away, 'node-c');
    expect(gone).toMatchObject({ todo: null, version: null, url: null });
    // Another one has heard it a moment ago, and says so for as long.
    await seen(b.url, (cluster) => memberOf(cluster, 'node-c').heardBy.length === 0);
    expect(gone.reason).toMatch(/^ConnectionRefused: node-c at /);
    // A second later it is away for a second more, and no more than since it was heard last.
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    const later = memberOf(await clusterOf(b.url), 'node-c');
    const sinceKilledMs = performance.now() - killedMs;
    expect(later.forMs).toBeGreaterThan(1_000);
    expect(later.forMs).toBeLessThan(sinceKilledMs + 2_000);
    await seen(a.url, ({ members }) => members.some(({ worst }) => worst === 'replica-failed'));
    await seen(b.url, ({ todo }) => todo === 'soon');
    const soon = await status(b);
    expect(soon.code).toBe(1);
    expect(soon.stdout).toMatch(/^prod: DEGRADED, something to do soon\n {2}3 members, 1 away/);
    expect(soon.stdout).toMatch(/AWAY node-c: for \d.* \(ConnectionRefused: /);
    expect(soon.stdout).toMatch(/│ node-a │ soon: replica-failed/);

    // Who led is gone as well: now, and of the dead it is still known what they led.
    await a.kill('SIGKILL');
    const worst = await seen(b.url, ({ todo }) => todo === 'now');
    expect(memberOf(worst, 'node-a')).toMatchObject({ state: 'away', led: 2 });
    expect((await status(b, '--json')).code).toBe(2);
  });

  test('where a space is: who leads it, who has it, how far each', async () => {
    const { a, b, c } = await three();
    await seen(b.url, ({ lag }) => lag.length === 2);
    const append = ['append', path.join(each.folder, 'a'), '--space', 'tenant-a'];
    const more = ['--payload', 'x', '--ack', '2'];
    expect((await startCommand(each.folder, [...append, ...more]).ended).code).toBe(0);
    const told = async () => (await clusterOf(c.url, 'tenant-a')).space;
    await expect.poll(told, { timeout: 30_000 }).toMatchObject({
      name: 'tenant-a',
      leader: 'node-a',
      isSure: true,
      copies: [
        { nodeId: 'node-a', role: 'primary', epoch: 1, flushed: 1, lagEntries: 0, isWhole: true },
        { nodeId: 'node-b', role: 'replica', epoch: 1, flushed: 1, lagEntries: 0 },
        { nodeId: 'node-c', role: 'replica', epoch: 1, flushed: 1, lagEntries: 0, applied: null },
      ],
    });
    // A stopped process takes connections, and says nothing.
    await a.kill('SIGSTOP');
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const askedMs = performance.now();
    const stopped = await clusterOf(c.url, 'tenant-a');
    expect(performance.now() - askedMs).toBeLessThan(DEADLINE_MS);
    expect(memberOf(stopped, 'node-a').reason).toMatch(/no answer in/);
    expect(stopped.space).toMatchObject({ leader: 'node-a', isSure: false });
    expect(stopped.space!.copies[0]).toMatchObject({ role: 'unknown', lagEntries: null });
    const text = await status(c, '--space', 'tenant-a');
    expect(text.stdout).toContain('tenant-a: led by node-a, which does not say so itself');
    const none = await status(b, '--space', 'nosuch');
    expect(none).toMatchObject({ code: 4, stdout: '' });
    expect(none.stderr).toContain('SpaceUnknown: nosuch is on none of the members that answer');
    await a.kill('SIGCONT');
  });
});

// --- what members say ----------------------------------------------------------------------

/** A node and a member that says what it is told to. */
async function besides(member: WireReplica): Promise<string> {
  await member.listen();
  each.finally(() => member.close());
  const a = await each.start('a', {
    listen: LISTEN,
    http: LISTEN,
    replicas: [at('b', member.port)],
    openConfirmMs: 0,
  });
  return `http://127.0.0.1:${a.httpAddress!.port}`;
}

function hostile(...said: PlainFrame[]): WireReplica {
  const member = new WireReplica('b');
  member.callFeatures = FEATURE_PEER_CALL | FEATURE_GLANCE;
  member.answer = ({ kind }) => (kind === 'glance-ask' ? said : undefined);
  return member;
}

describe('a member', () => {
  test('of an older version is there, and is not asked what it does not know', async () => {
    const member = new WireReplica('b');
    const questions: Frame[] = [];
    member.answer = (question) => void questions.push(question);
    const url = await besides(member);
    const cluster = await clusterOf(url);
    expect(memberOf(cluster, 'b')).toMatchObject({ state: 'older', reason: '', health: null });
    expect(cluster.health).toBe('healthy');
    expect(questions.filter(({ kind }) => kind === 'glance-ask')).toEqual([]);
    const { stdout, code } = await status({ url, kill: () => Promise.resolve() });
    expect(code).toBe(0);
    expect(stdout).toMatch(/│ b .*│ unknown │ for .*│ older: says no more/);
  });

  test('is asked once a second, however many look', async () => {
    const member = hostile({ kind: 'glance', ...GLANCE });
    let asked = 0;
    const { answer } = member;
    member.answer = (question) => {
      if (question.kind === 'glance-ask') asked++;
      return answer(question);
    };
    const url = await besides(member);
    const begunMs = performance.now();
    const all = await Promise.all(Array.from({ length: 20 }, () => clusterOf(url)));
    expect(all.map((cluster) => memberOf(cluster, 'b').state)).toEqual(Array(20).fill('answers'));
    // Twenty are answered within a second, or it may be asked again.
    const most = 1 + Math.floor((performance.now() - begunMs) / 1_000);
    expect(asked).toBeGreaterThan(0);
    expect(asked).toBeLessThanOrEqual(most);
    const before = asked;
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    await clusterOf(url);
    expect(asked).toBe(before + 1);
  });

  test('says nothing that acts, is long, or leads elsewhere', async () => {
    const links = [{ ...LINK, replicaId: 'a', state: '\u001b[2J' }];
    const more = { ...LINK, replicaId: 'nobody that is known' };
    const url = await besides(
      hostile({
        kind: 'glance',
        ...GLANCE,
        version: `\u001b]0;x\u0007${'9'.repeat(200)}`,
        worst: '\u202Eneddih',
        url: 'javascript:alert(1)',
        links: [...links, ...Array<GlanceLink>(GLANCE_LINKS_MAX - 1).fill(more)],
      }),
    );
    const cluster = await clusterOf(url);
    const told = memberOf(cluster, 'b');
    expect(told).toMatchObject({ state: 'answers', url: null, worst: '\\u{202e}neddih' });
    expect(told.version!.length).toBeLessThan(100);
    expect(told.version).toMatch(/^\\u\{1b\}\]0;x\\u\{7\}9+$/);
    expect(cluster.lag).toMatchObject([{ leader: 'b', member: 'a', state: '\\u{1b}[2J' }]);
    const { stdout } = await status({ url, kill: () => Promise.resolve() });
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there
    expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202e]/);
  });

  test.each<[string, PlainFrame[], RegExp]>([
    ['a word that is none', [{ kind: 'glance', ...GLANCE, health: 'fine' }], /itself fine/],
    [
      'more links than any node has',
      [{ kind: 'glance', ...GLANCE, links: Array(GLANCE_LINKS_MAX + 1).fill(LINK) }],
      /tells of 129 links/,
    ],
    [
      'the same twice',
      [
        { kind: 'glance', ...GLANCE },
        { kind: 'glance', ...GLANCE },
      ],
      /more than one answer/,
    ],
    [
      // As a whole it is more than an answer may have.
      'the same without end',
      Array(400).fill({ kind: 'glance', ...GLANCE, links: Array(GLANCE_LINKS_MAX).fill(LONG) }),
      /more than one answer/,
    ],
    ['nothing', [], /it gave no answer/],
    ['something else', [{ kind: 'tips', rows: [] }], /ProtocolViolation/],
    ['that it does not', [{ kind: 'peer-declined', code: 'Io', message: '\u001b' }], /^Io: /],
  ])('that answers with %s is away, and why', async (_, said, reason) => {
    const url = await besides(hostile(...said));
    // A machine that is too busy for the answer in time is told first, and asked again.
    const why = async () => memberOf(await clusterOf(url), 'b').reason;
    await expect.poll(why, { timeout: 30_000 }).toMatch(reason);
    const cluster = await clusterOf(url);
    const told = memberOf(cluster, 'b');
    expect(told).toMatchObject({ state: 'away', health: null });
    expect(told.reason).not.toContain('\u001b');
    expect(cluster.health).toBe('degraded');
  });

  test('is told no name of a space, and only where it is one', async () => {
    const key = 'a key that is long enough';
    const a = await each.start('a', { listen: LISTEN, key, replicas: [at('b', 1)] });
    await (await a.openSpace('secret-tenant', { lead: true })).append(1, Buffer.from('x'));
    const ask = async (nodeId: string): Promise<unknown> => {
      const own = {
        ...{ clusterId: 'test', nodeId, incarnation: 1n, directoryId: '9'.repeat(32) },
        ...{ maxEntryBytes: 16_384, maxFrameBytes: 131_072, readTimeoutMs: 5_000 },
        keepAliveMs: 5_000,
        credentials: { now: { keys: [Buffer.from(key)], tls: undefined } },
      };
      const client = new PeerClient(nodePlatform, own as never);
      const member = { nodeId: 'a', ...a.address! };
      return await client.ask(member, { kind: 'glance-ask' }, ['glance'], 5_000);
    };
    const [glance] = (await ask('b')) as Glance[];
    expect(glance).toMatchObject({ led: 1, spaces: 1, links: [{ replicaId: 'b' }] });
    expect(JSON.stringify(glance)).not.toContain('secret-tenant');
    await expect(ask('stranger')).rejects.toMatchObject({ code: 'NotMember' });
  });
});

test('of very many members so many are asked, in the order that people count in', async () => {
  const node = await each.start('n0', { http: LISTEN });
  const url = `http://127.0.0.1:${node.httpAddress!.port}`;
  const members = Array.from({ length: CLUSTER_MEMBERS_MAX + 6 }, (_, n) => {
    return { nodeId: `n${CLUSTER_MEMBERS_MAX + 6 - n}`, address: undefined, led: 0 };
  });
  const real = await clusterOf(url);
  expect(real.members.map(({ nodeId }) => nodeId)).toEqual(['n0']);
  const summary = node.summary();
  const snapshot = {
    ...{ atMs: 0, word: 'healthy', node: summary, problems: [], counts: {}, led: 0, rows: [] },
    ...{ replicas: new Map(), losses: new Map() },
  };
  const board = { uptimeMs: 5, fresh: () => Promise.resolve(snapshot) };
  const cluster = new Cluster({
    ...{ nodeId: 'n0', board, peers: undefined, calls: undefined },
    ...{ page: () => '', summary: () => summary, space: () => undefined },
    members: () => Promise.resolve(members),
  } as unknown as ClusterParts);
  const told = await cluster.json('s');
  expect(told).toMatchObject({ more: 6, health: 'degraded', space: { leader: null } });
  expect(told.members).toHaveLength(CLUSTER_MEMBERS_MAX + 1);
  expect(told.members.slice(0, 3).map(({ nodeId }) => nodeId)).toEqual(['n0', 'n1', 'n2']);
  expect(told.members[10]!.nodeId).toBe('n10');
  expect(told.members[1]).toMatchObject({ state: 'away', forMs: null });
});

describe('where the page of a node is', () => {
  test.each([
    [undefined, undefined, ''],
    [{}, { host: '127.0.0.1', port: 7480 }, 'http://127.0.0.1:7480/'],
    [{ tls: {} }, { host: 'node-a.example', port: 1 }, 'https://node-a.example:1/'],
    [{}, { host: '::1', port: 80 }, 'http://[::1]:80/'],
    // Where nobody can know by which address it is reached, none is made up.
    [{}, { host: '0.0.0.0', port: 7480 }, ''],
    [{}, { host: '::', port: 7480 }, ''],
    [{ url: 'https://wal.example/a/' }, { host: '0.0.0.0', port: 1 }, 'https://wal.example/a/'],
  ])('%j at %j: %s', (options, address, page) => {
    expect(pageOf(options as never, address)).toBe(page);
  });

  test.each([
    ['http://127.0.0.1:7480/', '127.0.0.1', 'http://127.0.0.1:7480/'],
    ['http://localhost:7480/', '::1', 'http://localhost:7480/'],
    // The machine that it is on is not the one that reads it.
    ['http://127.0.0.1:7480/', '10.0.0.2', ''],
    ['http://[::1]:7480/', '10.0.0.2', ''],
    ['https://10.0.0.2:7480/', '10.0.0.2', 'https://10.0.0.2:7480/'],
    ['javascript:alert(1)', '10.0.0.2', ''],
    ['http://user:secret@10.0.0.2/', '10.0.0.2', ''],
    ['file:///etc/passwd', '127.0.0.1', ''],
    ['no place', '127.0.0.1', ''],
  ])('told as %s by %s: %s', (url, host, page) => {
    expect(takeGlance({ ...GLANCE, url }, host).url).toBe(page);
  });

  test.each([
    'wal.example',
    'ftp://x/',
    'https://u@x/',
    `http://x/${'y'.repeat(255)}`,
    7,
  ])('http.url %s is refused', async (url) => {
    const http = { ...LISTEN, url: url as string };
    await expect(each.start('a', { http })).rejects.toThrow(/http\.url/);
  });
});
