/** Keys and certificates in files: what is taken, what is refused, and how newer ones come in. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import type { NodeOptions, NodeStatus } from '#src/main/index.js';
import { type CredentialOptions, CredentialStore } from '#src/main/runtime/credentials.js';
import { nodeProblems } from '#src/main/watch/health/node-problems.js';
import { Authority, EXPIRED } from '../../support/certificates.js';
import { EachTest, heard, until } from '../../support/cluster.js';

type Tls = NonNullable<NodeOptions['tls']>;

const DAY_MS = 86_400_000;
const KEY = 'a key of sixteen bytes, and more';
const life = new EachTest();
let ours: Authority;

beforeEach(async () => {
  ours = await Authority.make(life.folder);
});

const WHO = { clusterId: 'test', nodeId: 'a', keys: [] };

function opened(more: Partial<CredentialOptions>): Promise<CredentialStore> {
  return CredentialStore.open({ ...WHO, ...more });
}

function written(name: string, text: string | Uint8Array): string {
  const file = path.join(life.folder, name);
  fs.writeFileSync(file, text, { mode: 0o600 });
  return file;
}

describe('a file of keys', () => {
  test('one a line, at most two, the newline at the end is none of them', async () => {
    const keyFile = written('key', `${KEY}\n`);
    expect((await opened({ keyFile })).now.keys).toEqual([Buffer.from(KEY)]);
    fs.writeFileSync(keyFile, `${KEY}!\r\n${KEY}\r\n`);
    const two = [Buffer.from(`${KEY}!`), Buffer.from(KEY)];
    expect((await opened({ keyFile })).now.keys).toEqual(two);
  });

  test.each([
    ['no key', '', 'shorter than 16 bytes'],
    ['a short one', `${KEY}\nshort`, 'shorter than 16 bytes'],
    ['three', `${KEY}\n${KEY}1\n${KEY}2`, 'it has 3 lines, not at most 2'],
    ['the same twice', `${KEY}\n${KEY}`, 'both keys are the same'],
    ['bytes that are no text', Uint8Array.from({ length: 32 }, (_, i) => 200 + i), 'no text'],
    ['a long file', 'x'.repeat(300_000), 'it has 300000 bytes'],
  ])('%s: refused, and no error shows it', async (_, text, found) => {
    const keyFile = written('key', text);
    const refused = await opened({ keyFile }).catch((error: Error) => error);
    expect(refused).toMatchObject({ code: 'Configuration' });
    expect((refused as Error).message).toContain(found);
    expect((refused as Error).message).not.toContain(KEY);
  });

  test('one that is not there is named', async () => {
    const refused = opened({ keyFile: path.join(life.folder, 'none') });
    await expect(refused).rejects.toThrow(/keyFile .*none: ENOENT/);
  });
});

describe('files of certificates', () => {
  /** What is changed of files that are right, and what is said of it. */
  const WRONG: Record<string, [(tls: Tls) => unknown, string]> = {
    'the key of another one': [
      async ({ keyFile }) => fs.copyFileSync((await ours.tlsOf('a')).keyFile, keyFile),
      'the key of another certificate than',
    ],
    'no key at all': [({ keyFile }) => fs.writeFileSync(keyFile, 'x'), 'no private key'],
    'no certificate': [({ certFile }) => fs.writeFileSync(certFile, 'x'), 'no certificate in PEM'],
    'half a certificate': [
      ({ certFile }) => {
        const [head, ...lines] = fs.readFileSync(certFile, 'utf8').split('\n');
        fs.writeFileSync(certFile, [head, lines[0], '-----END CERTIFICATE-----'].join('\n'));
      },
      'cannot be read',
    ],
    'of another node': [
      async (tls) => {
        const other = await ours.tlsOf('b');
        for (const key of ['certFile', 'keyFile'] as const) fs.copyFileSync(other[key], tls[key]);
      },
      'is of URI:engram-wal:test/b, not of this node (URI:engram-wal:test/a)',
    ],
    'of another authority': [
      async (tls) => {
        const other = await (await Authority.make(life.folder)).tlsOf('a');
        for (const key of ['certFile', 'keyFile'] as const) fs.copyFileSync(other[key], tls[key]);
      },
      'do not accept it: UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    ],
    'no authority': [
      ({ caFile, certFile }) => fs.copyFileSync(certFile, caFile),
      'CN=a is no authority',
    ],
    'nothing there': [({ caFile }) => fs.rmSync(caFile), 'ENOENT'],
  };

  test.each(Object.keys(WRONG))('%s: the option is named', async (name) => {
    const [change, found] = WRONG[name]!;
    const tls = await ours.tlsOf('a');
    await change(tls);
    const refused = opened({ tls });
    await expect(refused).rejects.toMatchObject({
      code: 'Configuration',
      details: { option: 'tls' },
    });
    await expect(refused).rejects.toThrow(found);
  });

  test('an expired one: the node opens, and says so', async () => {
    const tls = await ours.tlsOf('a', { validity: EXPIRED });
    const node = await life.start('a', { tls });
    const space = await node.openSpace('s');
    await space.append(1, Buffer.from('x'));
    const [problem] = nodeProblems(node.summary(), 1);
    expect(problem).toMatchObject({ kind: 'certificate-expires', health: 'failed' });
    expect(problem!.text).toBe(
      'The node is refused by others: its certificate expired 1.0 days ago',
    );
  });

  test.each([
    [10, 365, true],
    [20, 365, false],
    // Made for a day: it is renewed each day.
    [0.5, 1, false],
    [0.1, 1, true],
  ])('%f days left of %f: told: %s', async (left, whole, isTold) => {
    const until = new Date(Date.now() + left * DAY_MS);
    const from = new Date(until.getTime() - whole * DAY_MS);
    const authority = await Authority.make(life.folder, 'test', 1_000);
    const tls = await authority.tlsOf('a', { validity: { from, until } });
    const node = await life.start('a', { tls });
    const problems = nodeProblems(node.summary(), 1);
    expect(problems.map((p) => p.kind)).toEqual(isTold ? ['certificate-expires'] : []);
    if (isTold) expect(problems[0]).toMatchObject({ health: 'degraded' });
  });
});

describe('a pipe that nobody writes to, where a file is named', () => {
  const pipe = (name = 'pipe'): string => {
    const file = path.join(life.folder, name);
    execFileSync('mkfifo', ['-m', '600', file]);
    // Whoever waits at its other end goes on.
    life.finally(() => {
      const { O_RDWR, O_NONBLOCK } = fs.constants;
      fs.closeSync(fs.openSync(file, O_RDWR | O_NONBLOCK));
    });
    return file;
  };
  const etcd = (more: object) => ({
    listen: { host: '127.0.0.1', port: 0 },
    coordinator: { kind: 'etcd' as const, endpoints: ['https://127.0.0.1:1'], ...more },
  });
  /** By what opens it: options that name one. */
  const NAMED: Record<string, (file: string, tls: Tls) => Partial<NodeOptions>> = {
    keyFile: (keyFile) => ({ keyFile }),
    'tls.caFile': (caFile, tls) => ({ tls: { ...tls, caFile } }),
    'http.tls.certFile': (certFile, { keyFile }) => ({ http: { tls: { certFile, keyFile } } }),
    'http.tls.keyFile': (keyFile, { certFile }) => ({ http: { tls: { certFile, keyFile } } }),
    'coordinator.tls.caFile': (caFile) => etcd({ tls: { caFile } }),
    'coordinator.passwordFile': (passwordFile) => etcd({ user: 'node', passwordFile }),
  };

  test.each(Object.keys(NAMED))('%s: it is no file, and nothing waits for it', async (option) => {
    const opening = life.start('a', NAMED[option]!(pipe(), await ours.tlsOf('a')));
    await expect(opening).rejects.toThrow(new RegExp(`${option}.*: it is no file`));
  });

  test('put in place of a key while the node runs: told, and appends go on', async () => {
    const keyFile = written('key', KEY);
    const node = await life.start('a', { keyFile });
    fs.rmSync(keyFile);
    pipe('key');
    await expect(node.reloadCredentials()).rejects.toThrow('it is no file');
    const space = await node.openSpace('s');
    await space.append(1, Buffer.from('x'));
    expect(node.status().credentials.keys).toBe(1);
  });
});

/** As Kubernetes mounts a secret: files are links into a folder that is a link itself. */
class Mount {
  readonly #dir: string;
  #times = 0;

  constructor(dir: string) {
    this.#dir = dir;
    fs.mkdirSync(dir);
  }

  put(files: Record<string, string>): void {
    const name = `..version-${this.#times++}`;
    fs.mkdirSync(path.join(this.#dir, name));
    for (const [file, text] of Object.entries(files)) {
      fs.writeFileSync(path.join(this.#dir, name, file), text, { mode: 0o400 });
      const link = path.join(this.#dir, file);
      if (!fs.existsSync(link)) fs.symlinkSync(path.join('..data', file), link);
    }
    fs.symlinkSync(name, path.join(this.#dir, '..new'));
    fs.renameSync(path.join(this.#dir, '..new'), path.join(this.#dir, '..data'));
  }

  at(file: string): string {
    return path.join(this.#dir, file);
  }
}

async function filesOf(more: Parameters<Authority['tlsOf']>[1]): Promise<Record<string, string>> {
  const { caFile, certFile, keyFile } = await ours.tlsOf('a', more);
  const text = (file: string): string => fs.readFileSync(file, 'utf8');
  return { 'ca.pem': text(caFile), 'tls.crt': text(certFile), 'tls.key': text(keyFile) };
}

const forDays = (days: number) => ({
  validity: { from: new Date(Date.now() - DAY_MS), until: new Date(Date.now() + days * DAY_MS) },
});

describe('newer files', () => {
  test('of a mounted secret are in force within seconds; wrong ones are not', async () => {
    const mount = new Mount(path.join(life.folder, 'mount'));
    mount.put({ ...(await filesOf(forDays(50))), key: KEY });
    const caFile = mount.at('ca.pem');
    const tls = { caFile, certFile: mount.at('tls.crt'), keyFile: mount.at('tls.key') };
    const node = await life.start('a', { tls, keyFile: mount.at('key') });
    const told = heard(node, 'credentials');
    const status = (): NodeStatus => node.status();
    expect(status().credentials).toMatchObject({ keys: 1, refusal: undefined });

    mount.put({ ...(await filesOf(forDays(90))), key: `${KEY}!\n${KEY}\n` });
    await until('they are read', () => told.length === 1);
    expect(told[0]).toEqual({ change: 'reloaded', reason: '2 keys, a certificate for 89 days' });
    expect(status().credentials.certificate!.daysLeft).toBeGreaterThan(89.9);

    const good = await filesOf(forDays(200));
    mount.put({ ...good, 'tls.key': (await filesOf({}))['tls.key']!, key: KEY });
    await until('they are refused', () => told.length === 2);
    expect(told[1]!.change).toBe('refused');
    expect(told[1]!.reason).toContain('the key of another certificate');
    // As a whole: not even the keys, which would have been right.
    expect(status().credentials).toMatchObject({ keys: 2 });
    expect(status().credentials.refusal).toContain('the key of another certificate');
    const problems = nodeProblems(node.summary(), 1);
    expect(problems.map((p) => p.kind)).toEqual(['credentials-refused']);

    mount.put({ ...good, key: KEY });
    await until('the right ones are read', () => told.length === 3);
    expect(status().credentials).toMatchObject({ keys: 1, refusal: undefined });
  });

  test('are read when that is asked for; one that has expired is not put in force', async () => {
    const tls = await ours.tlsOf('a', forDays(50));
    const node = await life.start('a', { tls });
    const old = await ours.tlsOf('a', { validity: EXPIRED });
    for (const key of ['certFile', 'keyFile'] as const) fs.copyFileSync(old[key], tls[key]);
    await expect(node.reloadCredentials()).rejects.toMatchObject({ code: 'Configuration' });
    expect(node.status().credentials.certificate!.daysLeft).toBeGreaterThan(49);
    const strange = await (await Authority.make(life.folder)).tlsOf('a');
    for (const key of ['certFile', 'keyFile'] as const) fs.copyFileSync(strange[key], tls[key]);
    await expect(node.reloadCredentials()).rejects.toThrow('do not accept it');
    expect(node.status().credentials.certificate!.daysLeft).toBeGreaterThan(49);
    const next = await ours.tlsOf('a', forDays(60));
    for (const key of ['certFile', 'keyFile'] as const) fs.copyFileSync(next[key], tls[key]);
    await node.reloadCredentials();
    expect(node.status().credentials.certificate!.daysLeft).toBeGreaterThan(59);
    await node.close();
    await expect(node.reloadCredentials()).rejects.toMatchObject({ code: 'Closed' });
  });
});
