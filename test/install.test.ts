/** The package in a project of somebody else, with no more than a small host needs. */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { installSmall, npm, pack, ROOT, weightOf } from './support/installed.js';

let dir: string;
let project: string;

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function run(args: readonly string[], cwd = project): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(process.execPath, args, { cwd, timeout: 50_000 }, (error, out, err) => {
      resolve({ code: error ? Number(error.code ?? -1) : 0, out, err });
    });
  });
}

beforeAll(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-install-'));
  project = path.join(dir, 'project');
  fs.mkdirSync(project);
  installSmall(project, pack(dir).tarball);
  fs.cpSync(path.join(ROOT, 'test/support/small-host.mjs'), path.join(project, 'host.mjs'));
}, 300_000);

afterAll(() => fs.rmSync(dir, { recursive: true, force: true }));

describe('installed with --omit=optional', () => {
  test('it is small', () => {
    const { packages, megabytes } = weightOf(project);
    expect(packages).toBeGreaterThan(3);
    expect(packages).toBeLessThan(25);
    expect(megabytes).toBeLessThan(12);
  });

  test('a host appends and replicates', async () => {
    const { code, out, err } = await run(['host.mjs', path.join(dir, 'data')]);
    expect(code, err).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ entries: 100 });
  });

  test('what is not there is named, with how to have it, where it is asked for', async () => {
    const source = `
      import { openNode } from 'engram-wal';
      const own = { dataDir: '../asks', nodeId: 'a', clusterId: 'c' };
      const told = [];
      const refused = (call) => call.then(() => told.push('taken'), (e) => told.push(e));
      const node = await openNode(own);
      await refused(node.metrics());
      await node.close();
      await refused(openNode({ ...own, http: { port: 0 } }));
      await refused(openNode({ ...own, compression: 'lz4' }));
      console.log(JSON.stringify(told.map(({ code, message }) => [code, message.split('\\n')[0]])));
      // Nothing of what was refused is left open.
      await (await openNode(own)).close();\n`;
    fs.writeFileSync(path.join(project, 'asks.mjs'), source);
    const { code, out, err } = await run(['asks.mjs']);
    expect(code, err).toBe(0);
    const told = JSON.parse(out) as [string, string][];
    const hints = ['prom-client', 'preact', 'lz4-napi'];
    for (const [i, name] of hints.entries()) expect(told[i]![1]).toContain(`npm install ${name}`);
    const missing = 'PackageMissing';
    expect(told.map(([id]) => id)).toEqual([missing, missing, 'Configuration']);
  });

  test('so does its command line', async () => {
    const bin = path.join(project, 'node_modules/.bin/engram-wal');
    const { code, err } = await run([fs.realpathSync(bin), '--help']);
    expect(code).toBe(2);
    expect(err).toMatch(/^engram-wal: PackageMissing: .*npm install commander\n/);
  });
});

describe('without the packages of development', () => {
  const quiet = ['--no-audit', '--no-fund', '--prefer-offline'];

  test('npm ci in a folder that was built: the command line runs', async () => {
    const built = path.join(dir, 'built');
    for (const name of ['package.json', 'package-lock.json', 'dist']) {
      fs.cpSync(path.join(ROOT, name), path.join(built, name), { recursive: true });
    }
    npm(built, 'ci', '--omit=dev', ...quiet);
    expect(fs.existsSync(path.join(built, 'node_modules/typescript'))).toBe(false);
    const { code, out, err } = await run(['dist/main/cli.js', 'serve', '--help'], built);
    expect(code, err).toBe(0);
    expect(out).toContain('--config');
  }, 300_000);
});
