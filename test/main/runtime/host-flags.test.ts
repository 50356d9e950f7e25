/** Hosts that were started in other ways, or that are one file made of many (row 88). */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type BuildOptions, build } from 'esbuild';
import { rolldown } from 'rolldown';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const ROOT = path.join(import.meta.dirname, '../../..');
const HOST = fs.readFileSync(path.join(ROOT, 'test/support/host.mjs'), 'utf8');
const WORKS = 'all threads work';

/** A project of somebody else: the package is in its node_modules. */
let project: string;

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function write(name: string, text: string): string {
  const file = path.join(project, name);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, text);
  return file;
}

function run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> {
  // Nothing of what started the tests.
  const { NODE_OPTIONS: _, ...clean } = process.env;
  const options = { cwd: project, timeout: 50_000, env: { ...clean, HOST_DIR: project, ...env } };
  return new Promise((resolve) => {
    execFile(process.execPath, args, options, (error, out, err) => {
      resolve({ code: error ? Number(error.code ?? -1) : 0, out, err });
    });
  });
}

beforeAll(() => {
  project = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-host-')));
  fs.mkdirSync(path.join(project, 'node_modules'));
  fs.symlinkSync(ROOT, path.join(project, 'node_modules/engram-wal'));
  write('host.mjs', HOST);
  write('main.mjs', "import { host } from './host.mjs';\nawait host();\n");
  write('bundled.mjs', "import { host } from './host.mjs';\nhost();\n");
  // What a host preloads is for its own code: it may well fail in a thread.
  const fails = "throw new Error('not made for threads');";
  write('preload.cjs', `if (!require('node:worker_threads').isMainThread) ${fails}\n`);
  write(
    'preload.mjs',
    `import { isMainThread } from 'node:worker_threads';\nif (!isMainThread) ${fails}\n`,
  );
  const hook = `export async function resolve(name, context, next) {
    if (name.includes('/workers/')) ${fails}
    return next(name, context);
  }\n`;
  write('loader.mjs', hook);
  write('host.env', 'NODE_OPTIONS="-r ./preload.cjs"\nA=1\n');
});

afterAll(() => fs.rmSync(project, { recursive: true, force: true }));

describe('FAULT-88 threads have flags of their own', () => {
  const evaluated = "const { host } = await import('./host.mjs'); await host();";
  test.each<[string, string[], Record<string, string>?]>([
    ['--input-type', ['--input-type=module', '-e', evaluated]],
    ['-r', ['-r', './preload.cjs', 'main.mjs']],
    ['--import', ['--import', './preload.mjs', 'main.mjs']],
    ['--loader', ['--no-warnings', '--loader', './loader.mjs', 'main.mjs']],
    ['--env-file', ['--env-file', './host.env', 'main.mjs']],
    ['NODE_OPTIONS', ['main.mjs'], { NODE_OPTIONS: '-r ./preload.cjs' }],
    ['a debugger', ['--inspect=127.0.0.1:0', 'main.mjs']],
    ['a small heap', ['--max-old-space-size=96', 'main.mjs']],
    ['no code from strings', ['--disallow-code-generation-from-strings', 'main.mjs']],
    ['deprecations that throw', ['--throw-deprecation', '--pending-deprecation', 'main.mjs']],
    ['intrinsics that are frozen', ['--no-warnings', '--frozen-intrinsics', 'main.mjs']],
    ['other conditions', ['-C', 'development', '--preserve-symlinks', 'main.mjs']],
  ])('%s', async (_, args, env) => {
    const { code, out, err } = await run(args, env);
    expect({ code, out: out.trim() }, err).toEqual({ code: 0, out: WORKS });
  });

  test('a host that changes NODE_OPTIONS while it runs, or is a thread itself', async () => {
    write(
      'late.mjs',
      `import { host } from './host.mjs';
      process.env.NODE_OPTIONS = '-r ./preload.cjs --no-such-option';
      await host();\n`,
    );
    write(
      'in-thread.mjs',
      `import { Worker } from 'node:worker_threads';
      const execArgv = ['--import', 'data:text/javascript,globalThis.preloaded = true'];
      const resourceLimits = { maxOldGenerationSizeMb: 64 };
      new Worker('./main.mjs', { execArgv, resourceLimits });\n`,
    );
    for (const file of ['late.mjs', 'in-thread.mjs']) {
      const { code, out, err } = await run([file]);
      expect({ file, code, out: out.trim() }, err).toEqual({ file, code: 0, out: WORKS });
    }
  });

  test("Yarn's loader finds packages: it stays", async () => {
    const seen = path.join(project, 'threads-that-load-it');
    const load = `Object.defineProperty(process.versions, 'pnp', { value: '3' });
      const { threadId } = require('node:worker_threads');
      require('node:fs').appendFileSync(${JSON.stringify(seen)}, threadId + '\\n');\n`;
    const loader = write('pnp.cjs', load);
    const { code, out, err } = await run(['main.mjs'], { NODE_OPTIONS: `-r ${loader}` });
    expect({ code, out: out.trim() }, err).toEqual({ code: 0, out: WORKS });
    expect(fs.readFileSync(seen, 'utf8').split('\n').length).toBeGreaterThan(4);
  });
});

describe('FAULT-88 what cannot work is said by openNode, with what to do', () => {
  /** The host in one file, as a bundler makes it that is told nothing but `more`. */
  async function bundle(
    format: 'esm' | 'cjs',
    into: string,
    more: BuildOptions = {},
  ): Promise<string> {
    const outfile = path.join(project, into);
    await build({
      absWorkingDir: project,
      entryPoints: ['bundled.mjs'],
      bundle: true,
      platform: 'node',
      format,
      outfile,
      nodePaths: [path.join(ROOT, 'node_modules')],
      logLevel: 'error',
      ...more,
    });
    return outfile;
  }

  /** By somebody who knows bundlers: what is no JavaScript stays outside. */
  async function carefulBundle(format: 'esm' | 'cjs', into: string): Promise<string> {
    // A module that was made of CommonJS has these; bundled as ESM it needs them.
    const js = `import { createRequire as requireOf } from 'node:module';
      const require = requireOf(import.meta.url);
      const __dirname = import.meta.dirname, __filename = import.meta.filename;`;
    const outfile = await bundle(format, into, {
      external: ['@node-rs/crc32', 'fs-native-extensions', 'lz4-napi'],
      banner: format === 'esm' ? { js } : {},
    });
    for (const name of ['@node-rs', 'fs-native-extensions', 'lz4-napi']) {
      const link = path.join(project, 'node_modules', name);
      if (!fs.existsSync(link)) fs.symlinkSync(path.join(ROOT, 'node_modules', name), link);
    }
    return outfile;
  }

  const UNSUITABLE =
    /HostUnsuitable: [^\n]+\n +expected: [^\n]+\n +to do: mark engram-wal as external/;

  test.each(['esm', 'cjs'] as const)('a bundle (%s)', async (format) => {
    const file = await carefulBundle(format, `bundles/main.${format === 'esm' ? 'mjs' : 'cjs'}`);
    const { code, out, err } = await run([file]);
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(err).toMatch(UNSUITABLE);
    expect(err).not.toContain('WalFailed');
  });

  test.each(['esm', 'cjs'] as const)('a bundle of everything (%s)', async (format) => {
    const file = await bundle(format, `naive/main.${format === 'esm' ? 'mjs' : 'cjs'}`);
    const { code, out, err } = await run([file]);
    expect({ code, out }, err).toEqual({ code: 1, out: '' });
    expect(err).toMatch(UNSUITABLE);
  });

  test('a bundle beside files of the same names that are not ours', async () => {
    const file = await carefulBundle('esm', 'app/main.mjs');
    for (const name of ['log-writer', 'metrics-thread', 'sealer', 'shipper-thread']) {
      write(`workers/${name}.js`, 'export {};\n');
    }
    const { code, out, err } = await run([file]);
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(err).toMatch(UNSUITABLE);
  });

  test('a bundle that leaves the package outside works', async () => {
    const outfile = path.join(project, 'external.mjs');
    await build({
      absWorkingDir: project,
      entryPoints: ['main.mjs'],
      bundle: true,
      platform: 'node',
      format: 'esm',
      outfile,
      external: ['engram-wal'],
      logLevel: 'error',
    });
    const { code, out, err } = await run([outfile]);
    expect({ code, out: out.trim() }, err).toEqual({ code: 0, out: WORKS });
  });

  test('so does one of a bundler like Rollup', async () => {
    const file = path.join(project, 'rolled.mjs');
    const bundled = await rolldown({
      cwd: project,
      input: path.join(project, 'main.mjs'),
      platform: 'node',
      external: ['engram-wal'],
    });
    await bundled.write({ file, format: 'esm' });
    await bundled.close();
    const { code, out, err } = await run([file]);
    expect({ code, out: out.trim() }, err).toEqual({ code: 0, out: WORKS });
  });

  test.each<[string, string[]]>([
    ['no thread be started', []],
    // Node 20 takes fsync away as soon as anything is to be permitted.
    ['no file be synced', ['--allow-worker']],
  ])("Node's permission model lets %s", async (what, more) => {
    const may = ['--allow-fs-read=*', '--allow-fs-write=*', '--allow-addons', ...more];
    const flags = ['--no-warnings', '--experimental-permission', ...may];
    const { code, out, err } = await run([...flags, 'main.mjs']);
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(err).toContain(`HostUnsuitable: Node lets ${what}`);
  });
});
