/** The verbs with which a person tries a running node, a file, this machine. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { at, EachTest, until } from '../../support/cluster.js';

const CLI = path.join(import.meta.dirname, '../../../dist/main/cli.js');
const ROOT = path.join(import.meta.dirname, '../../..');
const each = new EachTest();

interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

async function run(args: readonly string[], input?: string): Promise<Ran> {
  const child = spawn(process.execPath, [CLI, ...args]);
  const ran = { out: '', err: '' };
  child.stdout.on('data', (chunk) => (ran.out += chunk));
  child.stderr.on('data', (chunk) => (ran.err += chunk));
  child.stdin.end(input ?? '');
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return { code, ...ran };
}

/** A node as a process of its own, that leads `s` and ships it to a replica in this one. */
async function serve(sizes = { segmentBytes: 65_536, maxEntryBytes: 4_096 }): Promise<string> {
  const b = await each.start('b', { listen: { host: '127.0.0.1', port: 0 } });
  const dataDir = path.join(each.folder, 'data');
  const config = path.join(each.folder, 'wal.json');
  const own = { nodeId: 'a', clusterId: 'test', ...sizes };
  const spaces = [{ name: 's', lead: true }];
  const replicas = [at('b', b.address!.port)];
  fs.writeFileSync(config, JSON.stringify({ dataDir, ...own, replicas, spaces }));
  const child = spawn(process.execPath, [CLI, 'serve', '--config', config]);
  each.finally(() => child.kill('SIGKILL'));
  await saying(child, '"serving"');
  return dataDir;
}

async function saying(child: ChildProcess, text: string): Promise<() => string> {
  let said = '';
  child.stdout!.on('data', (chunk) => (said += chunk));
  child.stderr!.on('data', (chunk) => (said += chunk));
  await until(`it says ${text}`, () => said.includes(text), 40_000);
  return () => said;
}

describe('on a running node', () => {
  test('append, tail, spaces and space see one entry from one end to the other', async () => {
    const dir = await serve();
    const one = await run(['append', dir, '--space', 's', '--payload', 'hello', '--ack', '1']);
    expect([one.code, one.err]).toEqual([0, '']);
    expect(one.out).toBe('s: entry 1 of epoch 1 is on this disk and of 1 replicas\n');
    const lines = await run(['append', dir, '--space', 's', '--type', '1000', '--json'], 'b\nc\n');
    expect(
      lines.out
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line).sequence),
    ).toEqual([2, 3]);

    const last = await run(['tail', dir, '--space', 's', '-n', '2', '--json']);
    const told = last.out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(told).toMatchObject([{ sequence: 2, type: 1_000 }, { sequence: 3 }]);
    expect(Buffer.from(told[1].payload, 'base64').toString()).toBe('c');
    const all = await run(['tail', dir, '--space', 's', '--from', '1']);
    expect(all.out).toMatch(/^1 {2}epoch 1 {2}type 1 {2}\S+Z {2}hello\n2 .*b\n3 .*c\n$/);

    const spaces = await run(['spaces', dir]);
    expect(spaces.out).toMatch(/│ s +│ this node +│ 1 +│ 1\.\.3 +│/);
    expect(JSON.parse((await run(['spaces', dir, '--search', 'x', '--json'])).out)).toEqual({
      spaces: [],
    });
    const space = await run(['space', dir, '--space', 's']);
    expect(space.out).toMatch(/^s: led by this node, epoch 1\n {2}entries 1\.\.3, checkpoint 0\n/);
    expect(space.out).toMatch(/│ b +│ healthy +│ streaming +│ 3 +│/);
    const json = JSON.parse((await run(['space', dir, '--space', 's', '--json'])).out);
    expect(json).toMatchObject({ name: 's', durableSequence: 3, replicas: [{ replicaId: 'b' }] });
  });

  test('an entry may be as long as the log takes it, and no longer', async () => {
    const dir = await serve({ segmentBytes: 1 << 20, maxEntryBytes: 400_000 });
    const long = 'é'.repeat(200_000);
    const taken = await run(['append', dir, '--space', 's'], `${long}\n`);
    expect([taken.code, taken.err]).toEqual([0, '']);
    const last = await run(['tail', dir, '--space', 's', '-n', '1', '--json']);
    const { payload } = JSON.parse(last.out);
    expect(Buffer.from(payload, 'base64').equals(Buffer.from(long))).toBe(true);
    for (const [bytes, code] of [
      [400_001, 'EntryTooLarge'],
      [1_000_000, 'Configuration'],
    ] as const) {
      const refused = await run(['append', dir, '--space', 's'], 'x'.repeat(bytes));
      expect([bytes, refused.code, refused.err]).toEqual([bytes, 4, expect.stringContaining(code)]);
    }
  });

  test('tail goes on with those that come, until it is interrupted', async () => {
    const dir = await serve();
    const follows = spawn(process.execPath, [CLI, 'tail', dir, '--space', 's', '--follow']);
    each.finally(() => follows.kill('SIGKILL'));
    await run(['append', dir, '--space', 's', '--payload', 'first']);
    const said = await saying(follows, 'first');
    await run(['append', dir, '--space', 's', '--payload', 'second']);
    await until('it goes on', () => said().includes('second'), 40_000);
    expect(said().match(/first/g)).toHaveLength(1);
    follows.kill('SIGINT');
    const code = await new Promise((resolve) => follows.once('close', resolve));
    expect(code).toBe(0);
  });

  test('what is not there is usage; a new space is made when that is asked for', async () => {
    const dir = await serve();
    for (const verb of ['append', 'tail', 'space']) {
      const more = verb === 'append' ? ['--payload', 'x'] : [];
      const { code, err } = await run([verb, dir, '--space', 'nosuch', ...more]);
      expect([verb, code]).toEqual([verb, 4]);
      expect(err).toContain('SpaceUnknown');
    }
    const made = await run(['append', dir, '--space', 'new', '--payload', 'x', '--create']);
    expect([made.code, made.out]).toEqual([0, 'new: entry 1 of epoch 1 is on this disk\n']);
    const empty = await run(['append', path.join(each.folder, 'b'), '--space', 's'], '');
    expect(empty.code).toBe(0);
    const nobody = await run(['spaces', each.folder]);
    expect(nobody.code).toBe(2);
    expect(nobody.err).toContain('NotRunning');
  });
});

describe('without a node', () => {
  test('--version', async () => {
    const { version } = JSON.parse(fs.readFileSync(path.join(ROOT, 'package.json'), 'utf8'));
    expect(await run(['--version'])).toEqual({ code: 0, out: `${version}\n`, err: '' });
  });

  test('--help has the exit codes, also that of status', async () => {
    for (const args of [['--help'], ['status', '--help']]) {
      const { out } = await run(args);
      for (const code of ['0  nothing to do', '1  something to do soon', '4  wrong usage']) {
        expect(out).toContain(code);
      }
    }
  });

  test('config check says what serve would do, and names what it would refuse', async () => {
    const file = path.join(each.folder, 'wal.json');
    const config = { dataDir: 'data', nodeId: 'n', clusterId: 'c', http: { port: 0 } };
    fs.writeFileSync(file, JSON.stringify({ ...config, spaces: ['s'] }));
    const sound = await run(['config', 'check', file]);
    expect([sound.code, sound.err]).toEqual([0, '']);
    expect(sound.out).toMatch(/serve takes it\n {2}node n of cluster c, in .*data\n/);
    expect(fs.existsSync(path.join(each.folder, 'data'))).toBe(false);
    const json = await run(['config', 'check', file, '--json']);
    expect(JSON.parse(json.out)).toMatchObject({ nodeId: 'n', spaces: ['s'], listens: null });
    fs.writeFileSync(file, `{\n  "dataDir": "data",\n  "nodeID": "n"\n}`);
    const wrong = await run(['config', 'check', file]);
    expect(wrong.code).toBe(4);
    expect(wrong.err).toContain(`${file}:3:3: no option nodeID`);
  });

  test('bench measures this disk, and leaves nothing', async () => {
    const args = ['bench', '--dir', each.folder, '--seconds', '1', '--payload', '100', '--json'];
    const { code, out, err } = await run(args);
    expect([code, err]).toEqual([0, '']);
    const told = JSON.parse(out);
    expect(told.entriesPerSecond).toBeGreaterThan(100);
    expect(told.p99Ms).toBeGreaterThanOrEqual(told.p50Ms);
    expect(told.fdatasyncs).toBeGreaterThan(1);
    expect(fs.readdirSync(each.folder)).toEqual([]);
  });
});

describe('completion', () => {
  let script: string;
  beforeAll(() => {
    script = execFileSync(process.execPath, [CLI, 'completion', 'bash'], { encoding: 'utf8' });
  });

  /** What bash offers behind these words. */
  function offered(...words: string[]): string[] {
    const asked = ['engram-wal', ...words].map((word) => `'${word}'`).join(' ');
    const given = `COMP_WORDS=(${asked}); COMP_CWORD=${words.length}; _engram_wal`;
    const printed = `printf "%s\\n" "\${COMPREPLY[@]}"`;
    const input = `${script}\ncd /; ${given}; ${printed}`;
    return execFileSync('bash', { input, encoding: 'utf8' }).trim().split('\n');
  }

  test('offers verbs, verbs below verbs, and the options of each', () => {
    expect(offered('pro')).toContain('promote');
    expect(offered('quarantine', '')).toEqual(expect.arrayContaining(['ls', 'export']));
    expect(offered('config', 'ch')).toContain('check');
    expect(offered('promote', '/data', '--')).toEqual(
      expect.arrayContaining(['--space', '--force', '--dry-run']),
    );
    expect(offered('promote', 'data', '--f')).toEqual(['--force']);
    expect(offered('status', '--')).toContain('--watch');
  });

  test('for zsh is bash’s own; another shell is usage', async () => {
    const zsh = await run(['completion', 'zsh']);
    expect(zsh.out).toContain('bashcompinit');
    expect(zsh.out).toContain(script.trim());
    expect((await run(['completion', 'fish'])).code).toBe(4);
  });
});
