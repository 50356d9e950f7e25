/** What the demo takes as its input, and what it says of one that it cannot use. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { paced } from '#src/main/cli/demo/pace.js';
import { type Ended, startCommand } from '../../support/command-line.js';

let dir: string;

beforeAll(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-input-test-'));
});
afterAll(() => fs.rmSync(dir, { recursive: true, force: true }));

function file(name: string, content: string | Uint8Array): string {
  const full = path.join(dir, name);
  fs.writeFileSync(full, content);
  return full;
}

function fifo(name: string): string {
  const full = path.join(dir, name);
  execFileSync('mkfifo', [full]);
  return full;
}

const demo = (...args: string[]): Promise<Ended> => startCommand(dir, ['demo', ...args]).ended;

/** The demo with this on its standard input. */
async function piped(content: string, ...args: string[]): Promise<Ended> {
  const { child, ended } = startCommand(dir, ['demo', ...args], 'pipe');
  // It may end before it has read all.
  child.stdin!.on('error', () => undefined);
  child.stdin!.end(content);
  return await ended;
}

/** Nothing was started, nothing is left, and the line is named. */
function expectRefused({ code, stdout, stderr }: Ended, found: RegExp): void {
  expect(code).toBe(4);
  expect(stdout).toMatch(/^(engram-wal demo: reads .* to its end first\n)?$/);
  expect(stderr).toMatch(found);
  expect(stderr).toMatch(/Configuration: .*\n {2}expected: .*\n {2}to do: .*\n {2}example: /);
  expect(fs.readdirSync(dir).filter((name) => name.startsWith('engram-wal-demo-'))).toEqual([]);
}

const NDJSON = '{"space":"a","n":1}\n{"space":"b"}\n{"n":2}\n';

describe('an input that is there but once', () => {
  test('standard input: read once, logged as often as it is asked for', async () => {
    const { code, stdout, stderr } = await piped(NDJSON, '--json', '--input', '-', '--repeat', '3');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const result = JSON.parse(stdout);
    expect(result).toMatchObject({ entries: 9, spaces: 3 });
    expect(result.replicas).toMatchObject([{ identical: true }, { identical: true }]);
  });

  test('a FIFO, whoever is there first', async () => {
    const pipe = fifo('pipe');
    const reading = demo('--input', pipe);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    await fs.promises.writeFile(pipe, 'one\ntwo\n');
    const { code, stdout } = await reading;
    expect(code).toBe(0);
    expect(stdout).toMatch(/2 entries in one space, read as lines \(its first line is no JSON/);
    expect(stdout).toContain('identical on all three');
    const late = fifo('late');
    const writing = fs.promises.writeFile(late, NDJSON);
    expect(JSON.parse((await demo('--json', '--input', late)).stdout)).toMatchObject({ spaces: 3 });
    await writing;
  });

  test.each(['SIGINT', 'SIGTERM'] as const)('%s ends the wait for a writer', async (signal) => {
    const pipe = fifo(`nobody-${signal}`);
    const { child, ended } = startCommand(dir, ['demo', '--input', pipe]);
    await once(child.stdout!, 'data');
    child.kill(signal);
    const { code, stderr } = await ended;
    expect({ code, stderr }).toEqual({ code: 2, stderr: `engram-wal: ended by ${signal}\n` });
    expect(fs.readdirSync(dir).filter((name) => name.startsWith('engram-wal-demo-'))).toEqual([]);
  });

  test('its memory does not grow with it, and its last line is checked as well', async () => {
    const { child, ended } = startCommand(dir, ['demo', '--json', '--input', '-'], 'pipe');
    let mostKiB = 0;
    const watch = setInterval(() => {
      const status = fs.readFileSync(`/proc/${child.pid}/status`, 'utf8');
      mostKiB = Math.max(mostKiB, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0));
    }, 50);
    const line = `{"text":"${'x'.repeat(100_000)}"}\n`;
    const LINES = 3_000;
    for (let i = 0; i < LINES; i++) {
      if (!child.stdin!.write(line)) await once(child.stdin!, 'drain');
    }
    child.stdin!.end('not json\n');
    const refused = await ended.finally(() => clearInterval(watch));
    expectRefused(refused, new RegExp(`line ${LINES + 1} of standard input is no JSON object`));
    // 300 MB went through.
    expect(mostKiB).toBeGreaterThan(10_000);
    expect(mostKiB).toBeLessThan(200_000);
  });
});

describe('its format', () => {
  test('is as --format says, whatever it looks like', async () => {
    const text = file('looks-like.ndjson', NDJSON);
    const asLines = await demo('--json', '--input', text, '--format', 'lines');
    expect(JSON.parse(asLines.stdout)).toMatchObject({ entries: 3, spaces: 1 });
    const { stdout } = await piped(NDJSON, '--input', '-', '--format', 'ndjson');
    expect(stdout).toContain('3 entries in 3 spaces, read as ndjson (as --format says)');
  });

  test('is told, with what made it so', async () => {
    expect((await demo('--input', file('named.jsonl', NDJSON))).stdout).toContain(
      'read as ndjson (by its name)',
    );
    expect((await piped(NDJSON, '--input', '-')).stdout).toContain(
      'engram-wal demo: standard input',
    );
  });

  test('is not hidden by a byte order mark, which is no part of the first line', async () => {
    const marked = (text: string): Buffer => Buffer.from(`\ufeff${text}`);
    const objects = await demo('--json', '--input', file('marked', marked(NDJSON)));
    expect(JSON.parse(objects.stdout)).toMatchObject({ entries: 3, spaces: 3, bytes: 39 });
    const lines = await demo('--json', '--input', file('lines', marked(`a\n${marked('b')}`)));
    expect(JSON.parse(lines.stdout)).toMatchObject({ entries: 2, bytes: 5 });
    const one = await demo('--input', file('one', marked('a')));
    expect(one.stdout).toMatch(/^1 entry in one space, read as lines .*\n([\s\S]*\n)?1 entry in /m);
    const full = `${'x'.repeat(1024 ** 2)}\n`;
    expect((await demo('--input', file('full-marked', marked(full)))).code).toBe(0);
    expectRefused(await demo('--input', file('mark', marked(''))), /mark has no entry/);
  });

  test.each([
    [['--format', 'xml', '--input', 'x'], /choices are lines, ndjson/],
    [['--format', 'lines'], /--format says what an --input is/],
  ])('%j is no use of it', async (args, found) => {
    const { code, stderr } = await demo(...args);
    expect(code).toBe(4);
    expect(stderr).toMatch(found);
  });
});

describe('what cannot be logged is found before anything starts', () => {
  test('a line that is no object, with its number: blank lines count', async () => {
    const late = `${'{"n":1}\n'.repeat(2_000)}\n[1]\n`;
    expectRefused(await demo('--input', file('late.log', late)), /line 2002 of .*late\.log is no/);
    expectRefused(
      await piped('one\ntwo\n', '--input', '-', '--format', 'ndjson'),
      /line 1 of standard input is no JSON object/,
    );
  });

  test('a line that is too long, wherever its end is', async () => {
    const most = 'x'.repeat(1024 ** 2);
    const over = file('over.txt', `short\n${most}x\nshort\n`);
    expectRefused(await demo('--input', over), /line 2 of .*over\.txt is longer than 1 MiB/);
    expectRefused(
      await piped(`a\nb\n${most}x`, '--input', '-'),
      /line 3 of standard input is long/,
    );
    const { code, stdout } = await demo('--json', '--input', file('full.txt', `${most}\r\n`));
    expect({ code, bytes: JSON.parse(stdout).bytes }).toEqual({ code: 0, bytes: 1024 ** 2 });
  });

  test('a name that no space can have', async () => {
    const long = `{"space":"ok"}\n{"space":"${'n'.repeat(256)}"}\n`;
    expectRefused(await demo('--input', file('names.ndjson', long)), /line 2 of .*256 bytes/);
    const many = Array.from({ length: 16_385 }, (_, i) => `{"space":"s${i}"}\n`).join('');
    expectRefused(
      await demo('--input', file('many.ndjson', many)),
      /line 16385 of .* names one more: .* at most 16384 spaces/,
    );
  });

  test('an input that is neither a file nor a FIFO, or empty', async () => {
    expectRefused(await demo('--input', '/dev/zero'), /no regular file and no FIFO/);
    expectRefused(await piped('', '--input', '-'), /standard input has no entry/);
    const folder = fs.openSync(dir, 'r');
    const { ended } = startCommand(dir, ['demo', '--input', '-'], folder);
    fs.closeSync(folder);
    expectRefused(await ended, /cannot read --input standard input: a directory/);
    expectRefused(await piped(' \n\n', '--input', '-'), /standard input has no entry/);
  });
});

test('a file that grows meanwhile is logged as it was checked', async () => {
  const growing = file('growing.ndjson', '{"n":1}\n'.repeat(10_000));
  const { child, ended } = startCommand(dir, ['demo', '--input', growing, '--repeat', '5']);
  await once(child.stdout!, 'data');
  fs.appendFileSync(growing, 'not json\n');
  const { code, stdout } = await ended;
  expect(code).toBe(0);
  expect(stdout).toContain('50,000 entries in');
});

test('what is told of very many spaces leaves nearly all of the time to the nodes', async () => {
  let nowMs = 0;
  let calls = 0;
  const pace = {
    nowMs: () => nowMs,
    pause: async (ms: number) => {
      nowMs += ms;
    },
  };
  const ended = new AbortController();
  const lasts = (tookMs: number) => () => {
    nowMs += tookMs;
    if (++calls === 10) ended.abort();
  };
  await paced(lasts(500), 200, ended.signal, pace);
  expect({ calls, nowMs }).toEqual({ calls: 10, nowMs: 100_000 });
  await paced(lasts(1), 200, ended.signal, pace);
  expect(calls).toBe(10);
});
