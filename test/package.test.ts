import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { pack, ROOT } from './support/installed.js';

/** A project of somebody else, with the packed package and its dependencies installed. */
let project: string;
let tarball: string;
/** Of the package, as seen from its root. */
let files: readonly string[];

function run(command: string, ...args: string[]): string {
  return execFileSync(command, args, { cwd: project, encoding: 'utf8', timeout: 60_000 });
}

beforeAll(() => {
  project = fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-package-'));
  const modules = path.join(project, 'node_modules');
  fs.mkdirSync(path.join(modules, 'engram-wal'), { recursive: true });
  const packed = pack(project);
  files = packed.files;
  tarball = packed.tarball;
  const into = path.join(modules, 'engram-wal');
  execFileSync('tar', ['-xzf', packed.tarball, '-C', into, '--strip-components=1']);
  for (const name of fs.readdirSync(path.join(ROOT, 'node_modules'))) {
    if (name === 'engram-wal' || name.startsWith('.')) continue;
    fs.symlinkSync(path.join(ROOT, 'node_modules', name), path.join(modules, name));
  }
  fs.writeFileSync(path.join(project, 'package.json'), '{ "type": "module", "private": true }\n');
});

afterAll(() => fs.rmSync(project, { recursive: true, force: true }));

test("the README's example runs as it stands on the packed package", () => {
  const readme = fs.readFileSync(path.join(ROOT, 'README.md'), 'utf8');
  const example = /```js\n([\s\S]*?)```/.exec(readme)?.[1];
  expect(example).toContain("from 'engram-wal'");
  fs.writeFileSync(path.join(project, 'example.js'), example!);
  const printed = run(process.execPath, 'example.js');
  expect(printed).toContain('tenant-a: ');
  expect(printed).toMatch(/^1 Uint8Array\(5\)/m);
  expect(printed).toMatch(/^2 Uint8Array\(5\)/m);
});

test('its types serve a strict TypeScript project', () => {
  const source = `
    import { EngramError, type Entry, EntryType, jsonCodec, openNode } from 'engram-wal';
    import type { SpaceStatus } from 'engram-wal';
    const node = await openNode({ dataDir: './d', nodeId: 'a', clusterId: 'c' });
    const space = await node.openSpace('s');
    const { sequence }: { sequence: number } =
      await space.append(EntryType.EpisodeStore, new Uint8Array(1), { ack: { replicas: 0 } });
    const status: SpaceStatus = space.status();
    for await (const entry of space.read({ from: sequence })) {
      const e: Entry = entry;
      const at: bigint = e.timestamp;
      console.log(at, status.rpo.entries);
    }
    node.on('replica-state', (e) => console.log(e.replicaId));
    const notes = await node.openSpace('n', { codec: jsonCodec<{ words: string[] }>() });
    await notes.append(EntryType.Host, { words: ['one'] }, { signal: AbortSignal.timeout(1_000) });
    for await (const { value } of notes.read()) console.log(value.words.length);
    for await (const { name, event } of node.events(['switched-over', 'fatal'])) {
      if (name === 'fatal') console.log(event.error.message);
    }
    const { replicaId }: { replicaId: string } = await node.once('replica-state');
    console.log(replicaId);
    // @ts-expect-error a value of another kind
    await notes.append(EntryType.Host, { words: 1 });
    // @ts-expect-error an event that does not exist
    await node.once('never');
    // @ts-expect-error an option that does not exist
    await openNode({ dataDir: './d', nodeId: 'a', clusterId: 'c', wrong: 1 });
    export const code = (error: unknown) => (error instanceof EngramError ? error.code : undefined);
  `;
  fs.writeFileSync(path.join(project, 'host.ts'), source);
  const flags = '--strict --noEmit --module nodenext --target es2023 --types node'.split(' ');
  const installed = path.join(project, 'node_modules/engram-wal');
  // People copy the examples: they serve as they stand.
  fs.cpSync(path.join(installed, 'examples'), path.join(project, 'examples'), { recursive: true });
  const examples = fs
    .readdirSync(path.join(project, 'examples'))
    // That one where better-sqlite3 is: test/examples/sqlite-per-tenant.test.ts.
    .filter((file) => file !== 'sqlite-per-tenant.ts')
    .map((file) => `examples/${file}`);
  expect(examples.length).toBeGreaterThan(3);
  run(path.join(ROOT, 'node_modules/.bin/tsc'), ...flags, 'host.ts', ...examples);
});

test('every link of a packed document leads to a file of the pack, or to another site', () => {
  const documents = files.filter((file) => file.endsWith('.md'));
  expect(documents).toContain('README.md');
  const dead = documents.flatMap((file) => {
    const prose = fs.readFileSync(path.join(ROOT, file), 'utf8').replace(/^```[\s\S]*?^```$/gm, '');
    return [...prose.matchAll(/\]\(([^)\s#]+)[^)]*\)/g)]
      .map(([, link]) => link!)
      .filter((link) => !/^https:/.test(link))
      .map((link) => path.posix.join(path.posix.dirname(file), link))
      .filter((to) => !files.some((one) => one === to || one.startsWith(to.replace(/\/?$/, '/'))))
      .map((to) => `${file} leads to ${to}`);
  });
  expect(dead).toEqual([]);
});

test('package.json says what a stranger looks for; all comes from the public registry', () => {
  const read = (name: string): Record<string, unknown> =>
    JSON.parse(fs.readFileSync(path.join(ROOT, name), 'utf8')) as Record<string, unknown>;
  const facts = read('package.json');
  for (const name of ['description', 'keywords', 'homepage', 'license', 'author', 'engines']) {
    expect(facts[name], name).toBeTruthy();
  }
  expect(JSON.stringify(facts).match(/https?:\/\/[^/"]+/g)).toEqual(['https://www.npmjs.com']);
  const locked = Object.values(read('package-lock.json').packages as { resolved?: string }[]);
  const hosts = locked.flatMap(({ resolved }) => (resolved ? [new URL(resolved).host] : []));
  expect(hosts.filter((host) => host !== 'registry.npmjs.org')).toEqual([]);
});

test('its types resolve for every kind of project that can load it', () => {
  const bin = (name: string): string => path.join(ROOT, 'node_modules/.bin', name);
  // CommonJS gets it by import() alone: there is no second copy of it.
  const attw = run(
    bin('attw'),
    tarball,
    '--profile',
    'esm-only',
    '--no-emoji',
    '--format',
    'ascii',
  );
  expect(attw).toContain('node16 (from ESM): OK (ESM)');
  const linted = run(bin('publint'), tarball, '--strict');
  expect(linted).toContain('All good!');
});

test('its command line runs', () => {
  const installed = path.join(project, 'node_modules/engram-wal');
  const facts = JSON.parse(fs.readFileSync(path.join(installed, 'package.json'), 'utf8')) as {
    bin: Record<string, string>;
  };
  const bin = path.join(installed, facts.bin['engram-wal']!);
  const help = run(process.execPath, bin, 'demo', '--help');
  for (const option of ['--input', '--repeat', '--keep', '--json']) expect(help).toContain(option);
});

test('every package that it brings along takes the oldest Node.js that it promises', () => {
  interface Locked {
    readonly dev?: boolean;
    readonly engines?: { readonly node?: string };
  }
  const lock = JSON.parse(fs.readFileSync(path.join(ROOT, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, Locked>;
  };
  const own = lock.packages['']!.engines!.node!;
  expect(own).toBe('>=20.19');
  const wanted = Object.entries(lock.packages).flatMap(([name, { dev, engines }]) =>
    name !== '' && !dev && engines?.node ? [[name, engines.node] as const] : [],
  );
  expect(wanted.length).toBeGreaterThan(20);
  // Of each alternative the least version alone: `^18` would not take 20.
  const takes = (range: string): boolean =>
    range.split('||').some((one) => {
      const [, how = '', major = '', minor = '0'] =
        /^\s*(>=|\^|)\s*(\d+|\*)(?:\.(\d+|x|\*))?/.exec(one) ?? [];
      if (major === '*') return true;
      const [least, point] = [Number(major), Number(minor) || 0];
      if (how === '>=') return least < 20 || (least === 20 && point <= 19);
      return least === 20 && point <= 19;
    });
  expect(wanted.filter(([, range]) => !takes(range))).toEqual([]);
});
