/**
 * What others on the same machine can do through files: modes, links that somebody has planted,
 * secrets that everybody can read, snapshots without an end.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { openNodeOn } from '#src/main/node/open-node.js';
import { readSecret } from '#src/main/runtime/secret-file.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { Spool } from '#src/main/snapshot/spool.js';
import { findSocket } from '#src/main/watch/admin/socket.js';
import { crc32c } from '#src/shared/crc.js';
import { SNAPSHOT_INTAKES_MAX } from '#src/shared/limits.js';
import { idOf } from '#src/shared/names.js';
import type { SnapshotFacts } from '#src/shared/snapshot/facts.js';
import { at, EachTest, heard, openSmall, SMALL, until } from '../support/cluster.js';
import { startCommand } from '../support/command-line.js';
import { WireClient } from '../support/wire-client.js';

const ANY = { host: '127.0.0.1', port: 0 };
const each = new EachTest();
const dirOf = (nodeId: string): string => path.join(each.folder, nodeId);

function factsOf(name: string): SnapshotFacts {
  const position = { epoch: 1, sequence: 40, headerCrc: 9 };
  return { id: idOf(name), position, timestamp: 5n, history: [], sets: [] };
}

/** A closed directory with an entry in it. */
async function closed(nodeId = 'a'): Promise<string> {
  const node = await openSmall(dirOf(nodeId), nodeId);
  await (await node.openSpace('s')).append(1, Buffer.from('x'));
  await node.close();
  return dirOf(nodeId);
}

/** Opened, and closed again. */
async function lifeOf(dir: string): Promise<void> {
  await (await openSmall(dir, 'a')).close();
}

/** Everything below, with its mode. */
function modes(dir: string): [name: string, mode: string][] {
  const below = fs.readdirSync(dir, { recursive: true, encoding: 'utf8' });
  return ['', ...below].map((name) => {
    const stats = fs.lstatSync(path.join(dir, name));
    return [`${stats.isDirectory() ? 'd' : 'f'} ${name}`, (stats.mode & 0o777).toString(8)];
  });
}

describe('a data directory', () => {
  test('is its owner’s alone, whatever umask says: directories 0700, files 0600', async () => {
    const umask = process.umask(0);
    each.finally(() => process.umask(umask));
    const node = await each.start('a');
    const space = await node.openSpace('s');
    while (node.status().segments < 3) await space.append(1, Buffer.alloc(8_000));
    const spool = await Spool.create(nodeDisk, dirOf('a'), idOf('t'), factsOf('t'));
    await spool.close();
    await node.backup(dirOf('backup'));
    for (const dir of ['a', 'backup']) {
      const found = modes(dirOf(dir));
      expect(found.length).toBeGreaterThan(5);
      expect(found.filter(([name, mode]) => mode !== (name[0] === 'd' ? '700' : '600'))).toEqual(
        [],
      );
    }
  });

  test('that others can look into is opened, and told of', async () => {
    const dir = await closed();
    fs.chmodSync(dir, 0o755);
    const lines: string[] = [];
    const logger = {
      debug: () => undefined,
      info: () => undefined,
      warn: (_: object, text: string) => void lines.push(text),
      error: () => undefined,
    };
    const told: unknown[] = [];
    const opening = openSmall(dir, 'a', { logger });
    const node = await opening;
    node.on('directory-exposed', (event) => told.push(event));
    each.finally(() => node.close());
    await until('it is told', () => told.length > 0);
    expect(told).toEqual([{ dataDir: dir, mode: '0755' }]);
    expect(lines).toEqual([`others can look into ${dir} (mode 0755): chmod 700 it`]);
  });

  test('that others can write is refused as it was found; groups of the process may', async () => {
    const dir = await closed();
    const [segment] = fs.readdirSync(dir).filter((name) => name.endsWith('.log'));
    const cases: [folder: number, file: number][] = [
      [0o777, 0o600],
      [0o1777, 0o600],
      [0o702, 0o600],
      [0o755, 0o666],
    ];
    for (const [folder, file] of cases) {
      fs.chmodSync(dir, folder);
      fs.chmodSync(path.join(dir, segment!), file);
      const before = modes(dir);
      await expect(lifeOf(dir)).rejects.toMatchObject({
        code: 'DataRootUnavailable',
        message: expect.stringMatching(/can be written by others \(mode \d+\).*chmod go-rwx/),
      });
      expect(modes(dir)).toEqual(before);
    }
    fs.chmodSync(path.join(dir, segment!), 0o600);
    fs.chmodSync(dir, 0o770);
    fs.chownSync(dir, process.getuid!(), process.getgid!());
    await lifeOf(dir);
  });

  test('with a link in it is refused; what the link leads to is left alone', async () => {
    const dir = await closed();
    const target = path.join(each.folder, 'precious');
    for (const name of ['lock', 'node.json', 'node.json.tmp', 'snapshots', 'quarantine', 'admin']) {
      const there = path.join(dir, name);
      const kept = `${there}.kept`;
      const wasThere = fs.existsSync(there);
      if (wasThere) fs.renameSync(there, kept);
      if (wasThere) fs.renameSync(kept, path.join(each.folder, 'kept'));
      fs.writeFileSync(target, 'precious');
      fs.symlinkSync(target, there);
      await expect(lifeOf(dir), name).rejects.toMatchObject({
        code: 'DataRootUnavailable',
        message: expect.stringContaining(`${there} is a symbolic link`),
      });
      expect(fs.readFileSync(target, 'utf8')).toBe('precious');
      fs.unlinkSync(there);
      if (wasThere) fs.renameSync(path.join(each.folder, 'kept'), there);
    }
    await lifeOf(dir);
    // The directory itself may be one: somebody has put it elsewhere.
    const link = path.join(each.folder, 'link');
    fs.symlinkSync(dir, link);
    await lifeOf(link);
  });

  test('with a file that has another name, or that no segment is, is refused', async () => {
    const dir = await closed();
    const target = path.join(each.folder, 'precious');
    fs.writeFileSync(target, 'precious', { mode: 0o666 });
    for (const name of ['lock', 'reserve', 'state-0', 'wal-00000000fa400000.log', 'any']) {
      const there = path.join(dir, name);
      const kept = fs.existsSync(there) ? fs.readFileSync(there) : undefined;
      fs.rmSync(there, { force: true });
      fs.linkSync(target, there);
      await expect(lifeOf(dir), name).rejects.toMatchObject({
        code: 'DataRootUnavailable',
        message: expect.stringContaining(`${there} has 2 names`),
      });
      expect(fs.readFileSync(target, 'utf8')).toBe('precious');
      fs.rmSync(there);
      if (kept) fs.writeFileSync(there, kept, { mode: 0o600 });
    }
    // Whose zeros nobody could read in a day.
    const huge = path.join(dir, 'wal-00000000fa400000.log');
    fs.writeFileSync(huge, '', { mode: 0o600 });
    fs.truncateSync(huge, 2 ** 42);
    await expect(lifeOf(dir)).rejects.toMatchObject({
      code: 'CorruptionDetected',
      message: expect.stringContaining(`has ${2 ** 42} bytes, as no segment has`),
    });
    fs.rmSync(huge);
    await lifeOf(dir);
  });

  test('while it is open: no link is followed, whatever is opened or made', async () => {
    const node = await each.start('a');
    const dir = dirOf('a');
    const target = path.join(each.folder, 'precious');
    fs.writeFileSync(target, 'precious', { mode: 0o600 });
    const planted = path.join(dir, 'planted');
    fs.symlinkSync(target, planted);
    for (const how of ['read', 'write', 'create'] as const) {
      await expect(nodeDisk.open(planted, how), how).rejects.toMatchObject({
        code: 'Io',
        message: expect.stringContaining('holds no links'),
      });
    }
    // A folder elsewhere gets no files of ours.
    const elsewhere = path.join(each.folder, 'elsewhere');
    fs.mkdirSync(elsewhere);
    fs.symlinkSync(elsewhere, path.join(dir, 'snapshots'));
    const spooled = Spool.create(nodeDisk, dir, idOf('t'), factsOf('t'));
    await expect(spooled).rejects.toMatchObject({ code: 'Io' });
    expect(fs.readdirSync(elsewhere)).toEqual([]);
    // The operator's tool is not led to another's socket.
    const admin = path.join(dir, 'admin');
    fs.renameSync(admin, path.join(elsewhere, 'admin'));
    fs.symlinkSync(path.join(elsewhere, 'admin'), admin);
    await expect(findSocket(dir)).rejects.toMatchObject({ code: 'NotRunning' });
    expect(fs.readFileSync(target, 'utf8')).toBe('precious');
    expect(node.status().log.state).toBe('ok');
  });

  /** A node whose first segment somebody has moved away while it runs. */
  async function withoutSegment() {
    const a = await each.start('a');
    const space = await a.openSpace('s');
    // So many that none of the first is in memory any more.
    const most = SMALL.memoryBudgetBytes / SMALL.segmentBytes + 2;
    while (a.status().segments < most) await space.append(1, Buffer.alloc(8_000));
    const [first] = fs.readdirSync(dirOf('a')).filter((name) => name.endsWith('.log'));
    const segment = path.join(dirOf('a'), first!);
    const moved = path.join(each.folder, first!);
    fs.renameSync(segment, moved);
    return { a, space, segment, moved };
  }

  test('while it is open: nobody waits at a pipe in the place of a segment', async () => {
    const { a, space, segment } = await withoutSegment();
    execFileSync('mkfifo', [segment]);
    for (const how of ['read', 'write', 'create'] as const) {
      await expect(nodeDisk.open(segment, how), how).rejects.toMatchObject({
        code: 'Io',
        message: expect.stringContaining('is no file'),
      });
    }
    const b = await each.start('b', { listen: ANY });
    const states = heard(a, 'replica-state');
    await a.addReplica(at('b', b.address!.port));
    await until('it says why', () => states.some(({ reason }) => reason.includes('is no file')));
    // As many at once as the pool of libuv has threads, and more: none of them is kept.
    const reads = Array.from({ length: 8 }, async () => {
      for await (const _ of space.read({ from: 1, to: 1 }));
    });
    const found = await Promise.allSettled(reads);
    expect(found.map(({ status }) => status)).toEqual(Array(8).fill('rejected'));
    await space.append(1, Buffer.from('x'));
  });

  test('a shipper follows no link in the place of a segment', async () => {
    const { a, segment, moved } = await withoutSegment();
    fs.symlinkSync(moved, segment);
    const b = await each.start('b', { listen: ANY });
    const states = heard(a, 'replica-state');
    await a.addReplica(at('b', b.address!.port));
    await until('it says why', () => states.some(({ reason }) => reason.includes('ELOOP')));
  });
});

describe('a file with a secret', () => {
  test('may be a link, as Kubernetes mounts it, and is refused where others can read', async () => {
    const secrets = path.join(each.folder, '..data');
    fs.mkdirSync(secrets);
    const key = path.join(secrets, 'key');
    fs.writeFileSync(key, 'a key of at least thirty-two bytes, made up\n', { mode: 0o400 });
    const link = path.join(each.folder, 'key');
    fs.symlinkSync(key, link);
    expect((await readSecret('key', link)).toString()).toContain('made up');
    fs.chmodSync(key, 0o440);
    fs.chownSync(key, process.getuid!(), process.getgid!());
    expect((await readSecret('key', link)).length).toBe(44);
    for (const mode of [0o444, 0o644, 0o602]) {
      fs.chmodSync(key, mode);
      await expect(readSecret('key', link)).rejects.toMatchObject({
        code: 'Configuration',
        message: expect.stringMatching(/can be read or written by others \(mode 0\d+\).*0400/),
      });
    }
    const groups = vi.spyOn(process, 'getgroups').mockReturnValue([]);
    const gid = vi.spyOn(process, 'getegid').mockReturnValue(4_711);
    fs.chmodSync(key, 0o440);
    const others = readSecret('key', link);
    await expect(others).rejects.toMatchObject({ code: 'Configuration' });
    groups.mockRestore();
    gid.mockRestore();
    await expect(readSecret('key', each.folder)).rejects.toMatchObject({ code: 'Configuration' });
    await expect(readSecret('key', `${key}-not`)).rejects.toMatchObject({ code: 'Configuration' });
  });

  test('of serve, and of the page’s certificate, is looked at so', async () => {
    const file = path.join(each.folder, 'secret');
    fs.writeFileSync(file, 'a secret of at least thirty-two bytes, made up', { mode: 0o644 });
    const serve = async (more: object): Promise<string> => {
      const config = path.join(each.folder, 'wal.json');
      const options = { dataDir: 'a', nodeId: 'a', clusterId: 'test', ...more };
      fs.writeFileSync(config, JSON.stringify(options));
      const { code, stderr } = await startCommand(each.folder, ['serve', '--config', config]).ended;
      expect(code).toBe(4);
      return stderr;
    };
    expect(await serve({ keyFile: file })).toContain('can be read or written by others');
    expect(await serve({ http: { tokenFile: file } })).toContain(
      'can be read or written by others',
    );
    const tls = { certFile: file, keyFile: file };
    expect(await serve({ http: { tls } })).toContain('keyFile: ');
  });
});

describe('a primary that sends snapshots without an end', () => {
  /** So many spaces are introduced, and a snapshot of each is asked for. */
  async function flooding(port: number, spaces: number): Promise<WireClient> {
    const client = new WireClient(port);
    each.finally(() => client.socket.destroy());
    await client.hello('b', { maxFrameBytes: 1024 * 1024 });
    for (let handle = 1; handle <= spaces; handle++) {
      const name = `s${handle}`;
      const row = { handle, id: idOf(name), epoch: 1, name, members: [], sets: [] };
      client.send({ kind: 'spaces', rows: [row] });
      await client.next('positions');
      client.send({ kind: 'verdicts', rows: [{ handle, verdict: 'snapshot', next: 1 }] });
      await client.next('snapshot-request');
      const facts = { ...factsOf(name), id: idOf(`snapshot of ${name}`) };
      client.send({ kind: 'snapshot-begin', handle, epoch: 1, chunk: 0, facts });
    }
    return client;
  }

  function sendChunk(client: WireClient, handle: number, index: number): void {
    const bytes = new Uint8Array(32 * 1024);
    client.send({ kind: 'snapshot-chunk', handle, index, crc: crc32c(bytes), bytes });
  }

  const restore = async (): Promise<void> => undefined;
  const spooled = (): string[] => {
    const folder = path.join(dirOf('b'), 'snapshots');
    return fs.existsSync(folder) ? fs.readdirSync(folder) : [];
  };

  test('of one space: it ends at maxSnapshotBytes, and nothing of it stays', async () => {
    const b = await each.start('b', { listen: ANY, restore, maxSnapshotBytes: 100_000 });
    const failed = heard(b, 'snapshot-failed');
    const client = await flooding(b.address!.port, 1);
    for (let index = 0; index < 4; index++) {
      sendChunk(client, 1, index);
      if (index < 3) await client.next('snapshot-progress');
    }
    await until('it is given up', () => failed.length > 0);
    expect(failed[0]).toMatchObject({ code: 'SnapshotFailed' });
    expect(failed[0]!.reason).toContain('maxSnapshotBytes, 100000');
    expect((await client.next('snapshot-refuse')).code).toBe('SnapshotFailed');
    await until('nothing stays', () => spooled().length === 0);
  });

  test('of one space: some of the disk is left to the log', async () => {
    let free = 10 * SMALL.segmentBytes;
    const disk = { ...nodeDisk, freeBytes: async () => free };
    const options = { listen: ANY, restore, dataDir: dirOf('b'), nodeId: 'b' };
    const b = await openNodeOn(disk, { ...SMALL, ...options });
    each.finally(() => b.close());
    const failed = heard(b, 'snapshot-failed');
    const client = await flooding(b.address!.port, 1);
    sendChunk(client, 1, 0);
    await client.next('snapshot-progress');
    free = 4 * SMALL.segmentBytes;
    sendChunk(client, 1, 1);
    await until('it is given up', () => failed.length > 0);
    expect(failed[0]).toMatchObject({ code: 'DiskFull' });
    await until('nothing stays', () => spooled().length === 0);
  });

  test('of each of many spaces: so many at once, and no more', async () => {
    const b = await each.start('b', { listen: ANY, restore });
    const failed = heard(b, 'snapshot-failed');
    await flooding(b.address!.port, SNAPSHOT_INTAKES_MAX + 6);
    await until('six are refused', () => failed.length === 6);
    expect(failed[0]).toMatchObject({ code: 'SnapshotFailed' });
    await until('the others are here', () => spooled().length === SNAPSHOT_INTAKES_MAX);
  });
});
