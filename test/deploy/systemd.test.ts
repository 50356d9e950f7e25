/**
 * The unit files, and what a node tells systemd: through the real systemd-notify to a socket that
 * stands where systemd's would.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { makeFolder, removeFolder, until } from '../support/cluster.js';
import { NEEDS, requireHere } from '../support/needs.js';

const ROOT = path.join(import.meta.dirname, '../..');
const CLI = path.join(ROOT, 'dist/main/cli.js');
const UNITS = path.join(ROOT, 'deploy/systemd');
const PATIENCE_MS = 3_000;

/** Node.js has no datagram sockets of the file system; Perl is on every Debian. */
const EAR = `
use Socket; $| = 1;
socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die $!;
bind($s, sockaddr_un($ARGV[0])) or die $!;
print "listens\\n";
while (defined recv($s, my $told, 4096, 0)) { $told =~ tr/\\n/ /; print "$told\\n"; }
`;

/** Loaded before the node: SIGUSR2 blocks its loop; its fdatasync takes as long as is told. */
const TROUBLE = `
import fs from 'node:fs';
import threads from 'node:worker_threads';
import { syncBuiltinESMExports } from 'node:module';
const wait = (ms) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
const ms = Number(process.env.SLOW_MS ?? 0);
if (threads.isMainThread) {
  process.on('SIGUSR2', () => wait(600_000));
  const execArgv = ['--import', import.meta.url];
  threads.Worker = class extends threads.Worker {
    constructor(url, options) { super(url, { ...options, execArgv }); }
  };
} else if (ms > 0) {
  const { fdatasyncSync } = fs;
  fs.fdatasyncSync = (fd) => { wait(ms); fs.writeSync(2, 'slow\\n'); fdatasyncSync(fd); };
}
syncBuiltinESMExports();
`;

let folder: string;
let children: ChildProcess[];

beforeEach(() => {
  requireHere(NEEDS.systemd);
  folder = makeFolder();
  children = [];
});
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  removeFolder(folder);
});

interface Served {
  readonly child: ChildProcess;
  /** What systemd would have been told, and when, monotonic ms. */
  readonly told: { readonly text: string; readonly atMs: number }[];
  readonly output: () => string;
}

function linesOf(child: ChildProcess, each: (line: string) => void): void {
  let rest = '';
  child.stdout!.on('data', (chunk) => {
    const lines = `${rest}${chunk}`.split('\n');
    rest = lines.pop()!;
    for (const line of lines) each(line);
  });
}

/** Starts a node as the unit does. */
async function serve(env: Record<string, string> = {}): Promise<Served> {
  const socket = path.join(folder, 'notify');
  const told: Served['told'] = [];
  const ear = spawn('perl', ['-e', EAR, socket], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(ear);
  linesOf(ear, (line) => told.push({ text: line.trim(), atMs: performance.now() }));
  await until('systemd listens', () => told.length === 1);
  const trouble = path.join(folder, 'trouble.mjs');
  fs.writeFileSync(trouble, TROUBLE);
  const file = path.join(folder, 'wal.json');
  const own = { dataDir: 'data', nodeId: 'a', clusterId: 'c', spaces: [{ name: 's', lead: true }] };
  fs.writeFileSync(file, JSON.stringify({ ...own, http: { port: 0 } }));
  const child = spawn(process.execPath, ['--import', trouble, CLI, 'serve', '--config', file], {
    env: {
      ...process.env,
      NOTIFY_SOCKET: socket,
      WATCHDOG_USEC: String(PATIENCE_MS * 1_000),
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.push(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk;
    });
  }
  return { child, told, output: () => output };
}

const has = ({ told }: Served, text: string): boolean => told.some((one) => one.text === text);
const alive = ({ told }: Served): number[] =>
  told.filter(({ text }) => text === 'WATCHDOG=1').map(({ atMs }) => atMs);

describe('what systemd is told', () => {
  test('that it serves, only once it does; that its loop turns; that it closes', async () => {
    const served = await serve();
    await until('it is ready', () => has(served, 'READY=1'));
    expect(served.output()).toContain('"event":"serving"');
    expect(served.told.some(({ text }) => /^STATUS=a serves http:/.test(text))).toBe(true);
    await until('it is told three times', () => alive(served).length > 3);
    served.child.kill('SIGTERM');
    await until('it closes', () => has(served, 'STOPPING=1') && served.child.exitCode !== null);
    expect(served.child.exitCode).toBe(0);
  });

  test('nothing while its event loop is blocked: the watchdog ends it', async () => {
    const served = await serve();
    await until('it lives', () => has(served, 'READY=1') && alive(served).length > 0);
    const before = alive(served).length;
    served.child.kill('SIGUSR2');
    await new Promise((resolve) => setTimeout(resolve, 3 * PATIENCE_MS));
    // What was on its way.
    expect(alive(served).length - before).toBeLessThanOrEqual(1);
    expect(served.child.exitCode).toBeNull();
  });

  test('a disk that takes longer than its patience for each fdatasync ends nothing', async () => {
    const served = await serve({ SLOW_MS: String(2 * PATIENCE_MS) });
    await until('it is ready', () => has(served, 'READY=1'), 60_000);
    expect(served.output()).toContain('slow');
    const slow = alive(served).filter((_, i, all) => i > 0 && all[i]! - all[i - 1]! > PATIENCE_MS);
    expect(alive(served).length).toBeGreaterThan(3);
    expect(slow).toEqual([]);
  });

  test('where systemd-notify is missing, a line says so', async () => {
    const served = await serve({ PATH: path.dirname(process.execPath).replace('/usr/bin', '') });
    await until('it says so', () => served.output().includes('systemd-not-told'));
    expect(has(served, 'READY=1')).toBe(false);
  });
});

describe('the unit files', () => {
  /** With this repository, and this Node.js, where the package and Node.js would be. */
  function installed(change: (text: string) => string = (text) => text): string[] {
    return fs.readdirSync(UNITS).map((name) => {
      const text = fs.readFileSync(path.join(UNITS, name), 'utf8');
      const own = text
        .replaceAll('/usr/lib/engram-wal', ROOT)
        .replaceAll('/usr/bin/node', process.execPath);
      const file = path.join(folder, name);
      fs.writeFileSync(file, change(own));
      return file;
    });
  }

  function verify(files: readonly string[]): { code: number | null; output: string } {
    const args = ['verify', '--man=no', ...files];
    const { status, stdout, stderr } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
    return { code: status, output: `${stdout}${stderr}` };
  }

  test('systemd finds nothing wrong with them', () => {
    expect(verify(installed())).toEqual({ code: 0, output: '' });
    const wrong = verify(installed((text) => text.replace(/^WatchdogSec=.*/m, 'WatchdogSec=soon')));
    expect(wrong.output).toContain('Failed to parse sec value');
  });

  test('a service that is hardly exposed', () => {
    const service = installed().find((file) => file.endsWith('engram-wal.service'))!;
    const args = ['security', '--offline=true', '--threshold=20', '--no-pager', service];
    const { status, stdout } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
    expect({ status, stdout: stdout.slice(-200) }).toMatchObject({ status: 0 });
  });

  test('its folders are those of the runbook; it says that it is ready', () => {
    const text = fs.readFileSync(path.join(UNITS, 'engram-wal.service'), 'utf8');
    for (const line of [
      'RuntimeDirectory=engram-wal',
      'StateDirectory=engram-wal engram-wal-backup',
      'Type=notify',
      'NotifyAccess=all',
    ]) {
      expect(text.split('\n')).toContain(line);
    }
    expect(Number(/^WatchdogSec=(\d+)$/m.exec(text)?.[1])).toBeGreaterThan(10);
  });
});
