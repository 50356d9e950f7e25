import fs from 'node:fs';
import path from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { lineOf } from '#src/main/tell/event-lines.js';
import type { NodeEvents } from '#src/main/tell/events.js';
import { EventLog, type Logger } from '#src/main/tell/logger.js';
import { failure } from '#src/shared/errors.js';
import { LINES_PER_SUBJECT } from '#src/shared/limits.js';
import { makeFolder, openSmall, removeFolder, until } from '../../support/cluster.js';

interface Line {
  level: string;
  fields: Record<string, unknown>;
  text: string;
}

class Kept implements Logger {
  readonly lines: Line[] = [];
  readonly debug = (fields: object, text: string) => this.#keep('debug', fields, text);
  readonly info = (fields: object, text: string) => this.#keep('info', fields, text);
  readonly warn = (fields: object, text: string) => this.#keep('warn', fields, text);
  readonly error = (fields: object, text: string) => this.#keep('error', fields, text);

  #keep(level: string, fields: object, text: string): void {
    this.lines.push({ level, fields: fields as Record<string, unknown>, text });
  }

  of(event: string): Line[] {
    return this.lines.filter((line) => line.fields.event === event);
  }
}

let dir: string;
beforeEach(() => {
  dir = makeFolder();
});
afterEach(() => removeFolder(dir));

/** What a warning of the process was, while `work` ran. */
async function warnings(work: () => Promise<void>): Promise<string[]> {
  const seen: string[] = [];
  const listen = (warning: Error): void => void seen.push(`${warning.name}: ${warning.message}`);
  process.on('warning', listen);
  try {
    await work();
    await new Promise((resolve) => setImmediate(resolve));
  } finally {
    process.off('warning', listen);
  }
  return seen.filter((text) => text.startsWith('EngramWalWarning'));
}

const SECRET = 'a payload that nobody may read';
const HOST_ERROR = new TypeError(`cannot take ${SECRET}`);

/** One of each, as far as its shape goes. The compiler sees to it that none is left out. */
const ONE_OF_EACH: { [K in keyof NodeEvents]: NodeEvents[K] } = {
  'connection-refused': {
    door: 'replication',
    reason: 'auth',
    addressClass: 'public',
    address: '192.0.2.1',
    detail: 'x'.repeat(5_000),
    times: 7,
  },
  'replica-state': {
    replicaId: 'b',
    state: 'failed',
    reason: 'x'.repeat(5_000),
    consecutiveFailures: 3,
    fatal: 'WrongCluster',
    checksumFailures: 0,
    directoryId: 'd'.repeat(32),
  },
  credentials: { change: 'refused', reason: 'tls.keyFile: no private key' },
  fenced: { space: 's', epoch: 2, leader: { nodeId: 'b', host: '127.0.0.1', port: 7402 } },
  'member-regressed': {
    space: 's',
    replicaId: 'b',
    directoryId: 'd'.repeat(32),
    flushed: 9,
    sequence: 4,
  },
  'directory-renewed': { directoryId: 'd'.repeat(32), before: 'e'.repeat(32) },
  'leader-conflict': { space: 's', epoch: 2, otherId: 'b' },
  rewound: {
    space: 's',
    from: 4,
    to: 9,
    entries: 6,
    quarantine: '/data/quarantine/rewind-s.wal',
    primaryId: 'b',
    epoch: 2,
  },
  'replica-rewinds': { space: 's', replicaId: 'b' },
  promoted: {
    space: 's',
    isPromoted: true,
    epoch: 2,
    position: { epoch: 1, sequence: 9, headerCrc: 1 },
    isQualified: false,
    isMember: true,
    answersNeeded: 2,
    answers: [],
    silent: [{ nodeId: 'c', reason: 'x'.repeat(5_000) }],
    lost: [{ nodeId: 'b', from: 10, to: 12, entries: 3, epoch: 1 }],
    passedOver: [],
    mayLackFrom: undefined,
    applyBlocked: undefined,
    tookMs: 3.5,
  },
  'switched-over': { space: 's', from: 'a', to: 'b', epoch: 2, pauseMs: 7.5 },
  'switchover-abandoned': { space: 's', to: 'b', reason: 'x' },
  regressed: { space: 's', waiting: undefined },
  coordinator: { connected: false, reason: 'x'.repeat(5_000) },
  lease: { held: false, reason: 'x'.repeat(5_000) },
  leader: { space: 's', leader: { nodeId: 'b', epoch: 2, address: undefined } },
  'leader-waiting': { space: 's', reason: 'line\nbreak' },
  'replica-status': {
    replicaId: 'b',
    status: 'failed',
    before: 'healthy',
    spaces: new Array(5_000).fill('s'),
    reason: 'x'.repeat(5_000),
  },
  'lag-alert': {
    replicaId: 'b',
    alert: 'critical',
    before: 'none',
    spaces: new Array(5_000).fill('s'),
    lagMs: 'unknown',
  },
  'replica-stalled': {
    replicaId: 'b',
    isStalled: true,
    stage: 'flush',
    spaces: new Array(5_000).fill('s'),
  },
  'primary-connection': {
    primaryId: 'a',
    connected: false,
    reason: 'line\nbreak \u001b[31m \u202e',
    directoryId: undefined,
  },
  'primary-stalled': { primaryId: 'a', isStalled: true, stalledMs: 2_000 },
  'duplicate-node': { nodeId: 'b', directories: [undefined, 'd'.repeat(32)] },
  'keeps-all': { space: 's', checkpoint: 3 },
  'replica-refused': { space: 's', replicaId: 'b', verdict: 'fork' },
  'members-changed': {
    spaces: new Array(5_000).fill('s'),
    added: ['b'],
    removed: new Array(64).fill('c'),
  },
  'unconfirmed-open': { spaces: new Array(5_000).fill('s'), silent: new Array(64).fill('b') },
  'crash-loop': { crashes: 3, restartHintMs: 4_000 },
  'directory-exposed': { dataDir: '/data', mode: '0755' },
  'torn-tail': { lsn: 640, bytes: 64, quarantine: undefined },
  recovered: {
    decision: 'clean',
    from: 0,
    entries: 3,
    evidence: {} as NodeEvents['recovered']['evidence'],
    holes: [],
  },
  'state-failed': { error: Object.assign(new Error('ENOSPC, write'), { code: 'ENOSPC' }) },
  'node-file-rebuilt': { dataDir: '/data', directoryId: 'd'.repeat(32) },
  'node-file-raised': { dataDir: '/data', directoryId: 'd'.repeat(32) },
  repair: { space: 's', state: 'corrupt', reason: 'y'.repeat(900), unreachable: ['b'] },
  damaged: {
    holes: [{ start: 64, end: 128 }],
    entries: new Array(10_000).fill({ space: 's', from: 1, to: 2 }),
  },
  'disk-room': { todo: 'now', freeBytes: 2 ** 30, fullInMs: 900_000 },
  'log-state': { state: 'read-only', reason: 'disk-full' },
  'appends-lost': { space: 's', from: 3, to: 9 },
  'slot-lost': { space: 's', replicaId: 'b', flushed: 3, why: 'bytes' },
  'snapshot-started': { space: 's', replicaId: 'b', sequence: 9, chunk: 2 },
  'snapshot-done': { space: 's', replicaId: 'b', sequence: 9, chunks: 3, bytes: 700 },
  'snapshot-failed': {
    space: 's',
    replicaId: 'b',
    code: 'SnapshotFailed',
    reason: "the host's snapshot() threw: no",
    retryAfterMs: 100,
  },
  'replica-set': { replicaId: 'b', change: 'removed' },
  'space-role': { space: 's', role: 'replica', epoch: 2, primaryId: 'a' },
  'apply-failed': { space: 's', from: 4, attempts: 2, error: HOST_ERROR },
  'apply-blocked': { space: 's', sequence: 4, reason: 'poison', error: HOST_ERROR },
  'apply-resumed': { space: 's', sequence: 5 },
  'entry-skipped': { space: 's', sequence: 4 },
  'shipper-lost': { replicaId: 'b', reason: 'out of memory' },
  fatal: { error: failure('WalFailed', 'fdatasync: EIO') },
};

describe('the lines of events', () => {
  test.each(Object.keys(ONE_OF_EACH))('%s: one short line without a payload', (name) => {
    const kept = new Kept();
    const log = new EventLog('a', kept);
    const event = name as keyof NodeEvents;
    log.line(event, lineOf(event, ONE_OF_EACH[event], log.isDebug));
    expect(kept.lines).toHaveLength(1);
    const [line] = kept.lines;
    expect(line!.fields).toMatchObject({ event: name, nodeId: 'a' });
    const text = JSON.stringify(line);
    expect(text).not.toContain(SECRET);
    expect(text.length).toBeLessThan(2_000);
    expect(line!.text).toMatch(/^[^\p{Cc}\p{Cf}]+$/u);
    expect(log.recent).toMatchObject([{ event: name, level: line!.level, text: line!.text }]);
  });

  test('the levels tell a person where to look', () => {
    const levels = Object.fromEntries(
      (Object.keys(ONE_OF_EACH) as (keyof NodeEvents)[]).map((name) => [
        name,
        lineOf(name, ONE_OF_EACH[name], false).level,
      ]),
    );
    expect(levels).toMatchObject({ fatal: 'error', damaged: 'error', 'log-state': 'error' });
    expect(levels).toMatchObject({ 'torn-tail': 'warn', recovered: 'info', 'slot-lost': 'error' });
    const streaming = { ...ONE_OF_EACH['replica-state'], state: 'streaming' as const };
    expect(lineOf('replica-state', streaming, false).level).toBe('info');
  });

  test('what the host threw is written by a logger that writes debug lines, else not', () => {
    const quiet = lineOf('apply-failed', ONE_OF_EACH['apply-failed'], false);
    expect(quiet.fields).toMatchObject({ errorName: 'TypeError' });
    expect(JSON.stringify(quiet)).not.toContain(SECRET);
    const debug = lineOf('apply-failed', ONE_OF_EACH['apply-failed'], true);
    expect(debug.fields.errorMessage).toContain(SECRET);
  });

  test('FAULT-81 a million same events are some lines and a count', () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    try {
      const kept = new Kept();
      const log = new EventLog('a', kept);
      const event = { space: 's', from: 4, attempts: 2, error: HOST_ERROR };
      const line = lineOf('apply-failed', event, false);
      for (let i = 0; i < 1_000_000; i++) log.line('apply-failed', line);
      expect(kept.lines).toHaveLength(LINES_PER_SUBJECT);
      // Nothing else happens: their number is told all the same.
      vi.advanceTimersByTime(10_001);
      expect(kept.lines).toHaveLength(LINES_PER_SUBJECT + 1);
      const suppressed = 1_000_000 - LINES_PER_SUBJECT;
      expect(kept.lines.at(-1)!.fields).toMatchObject({ event: 'apply-failed', suppressed });
      expect(log.recent.length).toBeLessThan(5);
      expect(log.recent.at(-1)!.times).toBe(1_000_000 - 2);
    } finally {
      vi.useRealTimers();
    }
  });

  test('closing tells what is still held back, at the worst level of it', () => {
    const kept = new Kept();
    const log = new EventLog('a', kept);
    const failed = lineOf('replica-state', ONE_OF_EACH['replica-state'], false);
    const up = { ...ONE_OF_EACH['replica-state'], state: 'streaming' as const, reason: 'up' };
    for (let i = 0; i < LINES_PER_SUBJECT + 1; i++) log.line('replica-state', failed);
    log.line('replica-state', lineOf('replica-state', up, false));
    log.close();
    expect(kept.lines.at(-1)).toMatchObject({ level: 'error', fields: { suppressed: 2 } });
    expect(kept.lines.at(-1)!.text).toContain('streaming');
  });
});

describe('a node with a logger', () => {
  test('every event that a listener gets has its line, in order', async () => {
    const kept = new Kept();
    const b = await openSmall(path.join(dir, 'b'), 'b', {
      listen: { host: '127.0.0.1', port: 0 },
      logger: kept,
    });
    const heard: string[] = [];
    for (const name of Object.keys(ONE_OF_EACH) as (keyof NodeEvents)[]) {
      b.on(name, () => heard.push(name));
    }
    const a = await openSmall(path.join(dir, 'a'), 'a', {
      replicas: [{ nodeId: 'b', ...b.address! }],
    });
    const space = await a.openSpace('s');
    await space.append(1, Buffer.from(SECRET), { ack: { replicas: 1 } });
    await a.close();
    await until('the primary is gone', () => heard.includes('primary-connection'));
    await b.close();
    expect(kept.lines.map((line) => line.fields.event)).toEqual(heard);
    expect(heard).toEqual(expect.arrayContaining(['primary-connection', 'space-role']));
    expect(JSON.stringify(kept.lines)).not.toContain(SECRET);
  });

  test('pino takes them', async () => {
    const file = path.join(dir, 'log');
    const lines = pino.destination({ dest: file, sync: true });
    const node = await openSmall(path.join(dir, 'a'), 'a', { logger: pino(lines) });
    await node.openSpace('s');
    await node.close();
    const first = JSON.parse(fs.readFileSync(file, 'utf8').split('\n', 1)[0]!);
    expect(first).toMatchObject({ event: 'space-role', nodeId: 'a', level: 30 });
  });

  test('without one nothing is written', async () => {
    const seen = await warnings(async () => {
      const out = vi.spyOn(process.stdout, 'write');
      const err = vi.spyOn(process.stderr, 'write');
      const node = await openSmall(path.join(dir, 'a'), 'a');
      await (await node.openSpace('s')).append(1, Buffer.from('x'));
      await node.close();
      expect(out).not.toHaveBeenCalled();
      expect(err).not.toHaveBeenCalled();
      out.mockRestore();
      err.mockRestore();
    });
    expect(seen).toEqual([]);
  });

  test('FAULT-79 a listener that throws, or whose promise rejects, stops nobody', async () => {
    const kept = new Kept();
    const node = await openSmall(path.join(dir, 'a'), 'a', { logger: kept });
    let heard = 0;
    node.on('space-role', () => {
      throw new Error(SECRET);
    });
    node.on('space-role', async () => {
      throw new Error(SECRET);
    });
    node.on('space-role', () => void heard++);
    const space = await node.openSpace('s');
    await until('both are told', () => kept.of('listener-threw').length === 2);
    expect(heard).toBe(1);
    expect(kept.of('listener-threw')[0]!.fields).toMatchObject({ listenerOf: 'space-role' });
    expect(JSON.stringify(kept.lines)).not.toContain(SECRET);
    expect((await space.append(1, Buffer.from('x'))).sequence).toBe(1);
    await node.close();
  });

  test('FAULT-79 a logger that throws or rejects stops nobody, and is told of once', async () => {
    const broken: Logger = {
      debug: () => undefined,
      info: () => {
        throw new Error('no room for lines');
      },
      warn: () => Promise.reject(new Error('no room')),
      error: () => Promise.reject(new Error('no room')),
      isLevelEnabled: () => {
        throw new Error('no levels');
      },
    };
    const seen = await warnings(async () => {
      const node = await openSmall(path.join(dir, 'a'), 'a', { logger: broken });
      for (const name of ['s', 't']) {
        const space = await node.openSpace(name);
        expect((await space.append(1, Buffer.from('x'))).sequence).toBe(1);
      }
      await node.close();
    });
    expect(seen).toEqual(['EngramWalWarning: the logger threw: Error: no room for lines']);
  });

  test('a logger that is none is refused by name', async () => {
    const logger = { info: () => undefined } as unknown as Logger;
    const opened = openSmall(path.join(dir, 'a'), 'a', { logger });
    await expect(opened).rejects.toMatchObject({ code: 'Configuration' });
    await expect(opened).rejects.toThrow('option logger');
  });
});
