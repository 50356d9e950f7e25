import type { ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { paragraphs } from '#src/main/cli/demo/input.js';
import { verifyLogs } from '#src/main/cli/demo/verify.js';
import { digestLog } from '#src/main/cli/log-digest.js';
import { openNode } from '#src/main/index.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { type Ended, startCommand } from '../../support/command-line.js';

/** In this process: what the demo asks another one. */
const readHere = (dataDir: string) => digestLog(nodeDisk, dataDir);

/** Also the demo's own temporary directory: what it leaves behind is seen here. */
let dir: string;

beforeAll(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-demo-test-'));
});
afterAll(() => fs.rmSync(dir, { recursive: true, force: true }));

const start = (...args: string[]) => startCommand(dir, args);

function file(name: string, content: string | Uint8Array): string {
  const full = path.join(dir, name);
  fs.writeFileSync(full, content);
  return full;
}

function leftovers(): string[] {
  return fs.readdirSync(dir).filter((name) => name.startsWith('engram-wal-demo-'));
}

/** Whether the primary of a demo that runs has written an entry. */
function hasLogged(): boolean {
  return leftovers().some((base) => {
    const log = path.join(dir, base, 'primary', 'wal-0000000000000000.log');
    if (!fs.existsSync(log)) return false;
    const magic = Buffer.alloc(4);
    const file = fs.openSync(log, 'r');
    fs.readSync(file, magic);
    fs.closeSync(file);
    return magic.readUInt32LE() === 0xdeadbeef;
  });
}

/** Process ids of the children of `pid`, from the kernel. */
function childrenOf(pid: number): number[] {
  const text = fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return text === '' ? [] : text.split(' ').map(Number);
}

/** Not gone, and no zombie that only waits to be reaped by whoever adopted it. */
function isRunning(pid: number): boolean {
  try {
    return !/^State:\s*Z/m.test(fs.readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

async function until(what: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 20_000;
  while (!what()) {
    if (performance.now() > deadlineMs) throw new Error(`not within 20 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe('the demo', () => {
  test('--serve: a page to look at until it is enough, then the proof', async () => {
    const input = file('served.txt', 'one\ntwo\nthree\n');
    const demo = start('demo', '--serve', '--input', input);
    let out = '';
    demo.child.stdout!.on('data', (chunk) => (out += chunk));
    await until(() => out.includes('Look at it: '));
    const url = /Look at it: (\S+)/.exec(out)![1]!;
    expect(await (await fetch(url)).text()).toContain('<div id="page">');
    const metrics = await (await fetch(`${url}metrics`)).text();
    expect(metrics).toContain('engram_replication_lag_ms');
    // It goes on beyond its input.
    const entries = async (): Promise<number> => {
      const answer = await fetch(`${url}replication/status`);
      const { rows } = (await answer.json()) as { rows: { durableSequence: number }[] };
      return rows[0]?.durableSequence ?? 0;
    };
    let seen = 0;
    await expect
      .poll(async () => (seen = await entries()), { timeout: 20_000 })
      .toBeGreaterThan(30);
    demo.child.kill('SIGINT');
    const { code, stdout, stderr } = await demo.ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('identical on all three');
    expect(
      Number(/([\d,]+) entries in [\d.]+ s/.exec(stdout)![1]!.replace(',', '')),
    ).toBeGreaterThan(seen - 1);
    expect(leftovers()).toEqual([]);
  });

  test('replicates lines and proves them identical', async () => {
    const input = file('lines.txt', 'one\ntwo\r\n\n  \nthree\nno newline');
    const { code, stdout, stderr } = await start('demo', '--json', '--input', input).ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const lines = stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(1);
    const result = JSON.parse(lines[0]!);
    const replica = (id: string) => ({
      id,
      entries: 4,
      identical: true,
      lagMs: expect.any(Number),
    });
    expect(result).toEqual({
      entries: 4,
      bytes: 'onetwothreeno newline'.length,
      spaces: 1,
      seconds: expect.any(Number),
      entriesPerSecond: expect.any(Number),
      replicas: [replica('replica-1'), replica('replica-2')],
      dataDirs: ['primary', 'replica-1', 'replica-2'].map((id) => expect.stringMatching(`/${id}$`)),
    });
    for (const dataDir of result.dataDirs) expect(fs.existsSync(dataDir)).toBe(false);
    expect(leftovers()).toEqual([]);
  });

  test('takes NDJSON by its first line, and repeats it', async () => {
    const text = '{"space":"a","n":1}\n{"space":"b"}\n{"space":7}\n{"space":"a"}\n{}\n';
    const input = file('by-line.log', `\n${text}`);
    const { code, stdout } = await start('demo', '--json', '--input', input, '--repeat', '3').ended;
    expect(code).toBe(0);
    // a, b and, for what names no space, input.
    const bytes = 3 * text.replaceAll('\n', '').length;
    expect(JSON.parse(stdout)).toMatchObject({ entries: 15, spaces: 3, bytes });
  });

  test('takes bytes that are no UTF-8 as they are', async () => {
    const input = file('bytes.bin', Buffer.from([0xff, 0xfe, 0x0a, 0xc3, 0x0a]));
    const { code, stdout } = await start('demo', '--json', '--input', input).ended;
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ entries: 2, bytes: 3 });
  });

  test('prints a table for people', async () => {
    const { code, stdout } = await start('demo', '--input', file('table.txt', 'a\nb\n')).ended;
    expect(code).toBe(0);
    expect(stdout).toMatch(/replica-1 .* 2 .* yes/);
    expect(stdout).toMatch(/replica-2 .* 2 .* yes/);
    expect(stdout).toContain('identical on all three');
  });
});

describe('the proof', () => {
  const NAME = 'proof.txt';
  /** What one demo has kept. */
  let made: string[];

  beforeAll(async () => {
    const input = file(NAME, 'first entry\nsecond entry\nthird entry\n');
    const { code, stdout } = await start('demo', '--json', '--keep', '--input', input).ended;
    expect(code).toBe(0);
    made = JSON.parse(stdout).dataDirs;
  });
  afterAll(() => fs.rmSync(path.dirname(made[0]!), { recursive: true }));

  /** The three directories as the demo left them, for one test to change. */
  function kept(): { dirs: string[]; logged: Map<string, number> } {
    const base = fs.mkdtempSync(path.join(dir, 'kept-'));
    fs.cpSync(path.dirname(made[0]!), base, { recursive: true });
    const dirs = made.map((one) => path.join(base, path.basename(one)));
    return { dirs, logged: new Map([[NAME, 3]]) };
  }

  const verdicts = async (dirs: string[], logged: Map<string, number>) =>
    (await verifyLogs(readHere, dirs, logged)).map((p) => p.identical);

  function flip(dataDir: string, what: string): void {
    const name = fs.readdirSync(dataDir).find((n) => n.startsWith('wal-'))!;
    const segment = path.join(dataDir, name);
    const bytes = fs.readFileSync(segment);
    const at = bytes.indexOf(what);
    expect(at).toBeGreaterThan(0);
    bytes[at]! ^= 1;
    fs.writeFileSync(segment, bytes);
  }

  test.each([
    'first entry',
    'second entry',
    'third entry',
  ])('fails on one other byte in the %s of a replica', async (what) => {
    const { dirs, logged } = kept();
    expect(await verdicts(dirs, logged)).toEqual([true, true, true]);
    flip(dirs[2]!, what);
    expect(await verdicts(dirs, logged)).toEqual([true, true, false]);
  });

  test('fails for all where the primary does not hold what was logged', async () => {
    const { dirs, logged } = kept();
    const extra = new Map([...logged, ['never written', 1]]);
    expect(await verdicts(dirs, extra)).toEqual([false, false, false]);
    expect(await verdicts(dirs, new Map())).toEqual([false, false, false]);
    // The same damage on all three is still damage.
    for (const dataDir of dirs) flip(dataDir, 'third entry');
    const proofs = await verifyLogs(readHere, dirs, logged);
    expect(proofs.map((p) => p.identical)).toEqual([false, false, false]);
    expect(proofs[0]!.difference).toContain('proof.txt: 2 entries on disk, 3 were logged');
  });

  test('fails on a space that only the replica has', async () => {
    const { dirs, logged } = kept();
    const [, , dataDir] = dirs as [string, string, string];
    const node = await openNode({ dataDir, nodeId: 'replica-2', clusterId: 'demo', lead: true });
    expect(await verdicts(dirs, logged)).toEqual([true, true, true]);
    await (await node.openSpace('extra')).append(1, Buffer.from('x'));
    await node.close();
    expect(await verdicts(dirs, logged)).toEqual([true, true, false]);
  });
});

describe('when it cannot go on', () => {
  test.each([
    ['--repeat 0', ['demo', '--repeat', '0']],
    ['an unknown option', ['demo', '--nonsense']],
    ['an unknown command', ['nonsense']],
    ['no command', []],
    ['a file that is not there', ['demo', '--input', '/nonexistent/file']],
    ['a directory', ['demo', '--input', os.tmpdir()]],
    ['an empty file', ['demo', '--input', 'EMPTY']],
    ['NDJSON that is none', ['demo', '--input', 'BAD']],
    ['NDJSON that is none from its third line on', ['demo', '--input', 'BAD-LATER']],
  ])('%s ends with code 4', async (_, args) => {
    const files: Record<string, string> = {
      EMPTY: file('empty.txt', '\n\n'),
      BAD: file('bad.ndjson', 'not json\n'),
      'BAD-LATER': file('bad-later.ndjson', '{}\n{}\n{\n'),
    };
    const { code, stdout, stderr } = await start(...args.map((a) => files[a] ?? a)).ended;
    expect(code).toBe(4);
    expect(stderr).not.toBe('');
    expect(stderr).not.toMatch(/^\s+at /m);
    if (args.includes('--input')) {
      expect(stderr).toMatch(/Configuration: .*\n {2}expected: .*\n {2}to do: .*\n {2}example: /);
    }
    expect(stdout).not.toContain('identical');
    expect(leftovers()).toEqual([]);
  });

  async function running(...more: string[]): Promise<{
    child: ChildProcess;
    ended: Promise<Ended>;
    pids: number[];
  }> {
    const input = file('long.txt', 'a line of the input\n'.repeat(100_000));
    const demo = start('demo', '--json', '--input', input, '--repeat', '100000', ...more);
    await until(() => childrenOf(demo.child.pid!).length === 3);
    const pids = childrenOf(demo.child.pid!);
    await until(hasLogged);
    return { ...demo, pids };
  }

  test.each(['SIGINT', 'SIGTERM'] as const)('%s leaves nothing behind', async (signal) => {
    const { child, ended, pids } = await running();
    child.kill(signal);
    const { code, stdout, stderr } = await ended;
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toBe(`engram-wal: ended by ${signal}\n`);
    expect(pids.filter(isRunning)).toEqual([]);
    expect(leftovers()).toEqual([]);
  });

  test('an interrupt with --keep keeps logs that are whole', async () => {
    const { child, ended, pids } = await running('--keep');
    child.kill('SIGINT');
    expect((await ended).code).toBe(2);
    expect(pids.filter(isRunning)).toEqual([]);
    const [base] = leftovers();
    const nodes = ['primary', 'replica-1', 'replica-2'];
    const counts: number[] = [];
    for (const id of nodes) {
      const [digest] = (await digestLog(nodeDisk, path.join(dir, base!, id))).values();
      counts.push(digest?.entries ?? 0);
    }
    expect(counts[0]).toBeGreaterThan(0);
    // The last entries may not have been shipped; none may be there that the primary lacks.
    expect(Math.max(...counts)).toBe(counts[0]);
    fs.rmSync(path.join(dir, base!), { recursive: true });
  });

  test.each([
    [0, 'replica-1'],
    [1, 'replica-2'],
    [2, 'primary'],
  ])('the death of process %i is told as that of %s', async (index, name) => {
    const { ended, pids } = await running();
    process.kill(pids[index]!, 'SIGKILL');
    const { code, stdout, stderr } = await ended;
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(`${name} died (SIGKILL)`);
    expect(pids.filter(isRunning)).toEqual([]);
    expect(leftovers()).toEqual([]);
  });

  test('no process outlives a demo that is killed', async () => {
    const { child, ended, pids } = await running();
    child.kill('SIGKILL');
    await ended;
    await until(() => pids.filter(isRunning).length === 0);
    for (const name of leftovers()) fs.rmSync(path.join(dir, name), { recursive: true });
  });
});

test('a text is parted at blank lines, else at lines, else after five sentences', () => {
  expect(paragraphs('a\nb\n\n\nc\n')).toEqual(['a\nb', 'c']);
  expect(paragraphs('a\nb\n')).toEqual(['a', 'b']);
  expect(paragraphs('A. B. C. D. E. F. G.')).toEqual(['A. B. C. D. E.', 'F. G.']);
  expect(paragraphs(' ')).toEqual([]);
});
