/** How a node gets into an etcd that asks who it is, and what it says where it is not let in. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { Message } from '#src/main/lead/etcd/messages.js';
import { EtcdSession, type SessionOptions } from '#src/main/lead/etcd/session.js';
import { EachTest, openSmall, until } from '../support/cluster.js';
import { EtcdServer, freePort } from '../support/etcd.js';

const life = new EachTest();
/** Long enough for a busy machine to be slow. */
const TTL_MS = 6_000;

interface Seen {
  readonly session: EtcdSession;
  /** Whether the link stands, and why not. */
  readonly links: (readonly [connected: boolean, reason: string])[];
  isHeld: boolean;
  losses: number;
}

async function secured(): Promise<EtcdServer> {
  const etcd = await EtcdServer.start(life.folder, undefined, true);
  life.finally(() => etcd.kill());
  return etcd;
}

function open(etcd: EtcdServer, more: Partial<SessionOptions> = {}): Seen {
  const links: Seen['links'] = [];
  const options = { ...etcd.access, ttlMs: TTL_MS, prefix: 'wal/test/', ...more };
  const session = new EtcdSession(options, {
    up: () => {
      seen.isHeld = true;
    },
    changed: () => undefined,
    lapsed: () => {
      seen.isHeld = false;
    },
    lost: () => {
      seen.isHeld = false;
      seen.losses++;
    },
    link: (connected, reason) => void links.push([connected, reason]),
  });
  const seen: Seen = { session, links, isHeld: false, losses: 0 };
  life.finally(() => session.close());
  session.start();
  return seen;
}

const write = (seen: Seen, value: string): Promise<number | undefined> =>
  seen.session.write([], [{ key: 'wal/test/key', value }]);

async function refused(etcd: EtcdServer, more: Partial<SessionOptions>): Promise<string> {
  const { links } = open(etcd, more);
  await until('it is told', () => links.length > 0);
  expect(links[0]![0]).toBe(false);
  return links[0]![1];
}

describe('an etcd that asks who comes', () => {
  test('lets in who has a certificate and a password; the lease lives', async () => {
    const seen = open(await secured());
    await until('it is up', () => seen.isHeld);
    expect(await write(seen, 'one')).toBeGreaterThan(0);
    expect((await seen.session.get('wal/test/key'))?.value).toBe('one');
    await new Promise((resolve) => setTimeout(resolve, 1.5 * TTL_MS));
    expect([seen.isHeld, seen.losses]).toEqual([true, 0]);
  });

  test('says why it does not, without the password', async () => {
    const etcd = await secured();
    const { tls } = etcd.access;
    const { caFile } = tls!;
    expect(await refused(etcd, { tls: { caFile } })).toMatch(/certificate/);
    const noCa = { tls: { certFile: tls!.certFile, keyFile: tls!.keyFile } };
    expect(await refused(etcd, noCa)).toMatch(/certificate/);
    expect(await refused(etcd, { prefix: 'others/test/' })).toContain('permission denied');
    const wrong = path.join(life.folder, 'wrong');
    fs.writeFileSync(wrong, 'a guess', { mode: 0o600 });
    const reason = await refused(etcd, { passwordFile: wrong });
    expect(reason).toContain('invalid user ID or password');
    expect(reason).not.toContain('a guess');
    fs.chmodSync(wrong, 0o644);
    expect(await refused(etcd, { passwordFile: wrong })).toContain('read or written by others');
  });

  test('a file that is not there, or that others can read, is told by openNode', async () => {
    const own = (more: object) => {
      const coordinator = { kind: 'etcd' as const, endpoints: ['https://127.0.0.1:1'], ...more };
      const listen = { host: '127.0.0.1', port: 0 };
      return openSmall(path.join(life.folder, 'a'), 'a', { listen, coordinator });
    };
    const file = path.join(life.folder, 'file');
    const [user, passwordFile] = ['node', file];
    await expect(own({ user, passwordFile })).rejects.toMatchObject({
      code: 'Configuration',
      message: expect.stringContaining(`coordinator.passwordFile: ${file}: ENOENT`),
    });
    fs.writeFileSync(file, 'x', { mode: 0o644 });
    await expect(own({ user, passwordFile })).rejects.toThrow('read or written by others');
    const tls = { certFile: file, keyFile: file };
    await expect(own({ tls })).rejects.toThrow('coordinator.tls.keyFile');
    await expect(own({ tls: { caFile: `${file}-not` } })).rejects.toThrow('coordinator.tls.caFile');
    expect(fs.existsSync(path.join(life.folder, 'a'))).toBe(false);
  });

  test('FAULT-42 TLS where there is none, and none where there is: what it should be', async () => {
    const etcd = await secured();
    const endpoints = [etcd.endpoint.replace('https', 'http')];
    const clear = await refused(etcd, { endpoints, tls: undefined });
    expect(clear).toContain('if it speaks TLS, it is https://');
    const port = { host: '127.0.0.1', port: await freePort(), peerPort: await freePort() };
    const plain = await EtcdServer.start(path.join(life.folder, 'plain'), port);
    life.finally(() => plain.kill());
    const there = [plain.endpoint.replace('http', 'https')];
    expect(await refused(etcd, { endpoints: there })).toContain(
      'if it speaks no TLS, it is http://',
    );
  });

  test('a password that is mended in its file is taken without a restart', async () => {
    const etcd = await secured();
    const passwordFile = path.join(life.folder, 'mended');
    fs.writeFileSync(passwordFile, 'a guess', { mode: 0o600 });
    const seen = open(etcd, { passwordFile });
    await until('it is refused', () => seen.links.length > 0);
    fs.copyFileSync(etcd.access.passwordFile!, passwordFile);
    await until('it is up', () => seen.isHeld);
  });

  test('a token that etcd knows no more is replaced, and the lease stays', async () => {
    const etcd = await secured();
    const seen = open(etcd);
    await until('it is up', () => seen.isHeld);
    const { lease } = seen.session;
    for (let n = 0; n < 3; n++) {
      // Whatever changes about users makes every token an old one.
      const user = new Message().bytes(1, `other-${n}`).bytes(2, 'x');
      await etcd.askAsRoot('Auth/UserAdd', user);
      expect(await write(seen, String(n))).toBeGreaterThan(0);
    }
    // Tokens are in etcd's memory alone.
    await etcd.kill();
    await etcd.start();
    await until('it is missed', () => !seen.session.isUp);
    await until('it is up again', () => seen.session.isUp);
    expect(await write(seen, 'again')).toBeGreaterThan(0);
    expect([seen.session.lease, seen.losses]).toEqual([lease, 0]);
  });

  test('endpoints that are dead, or that move, are gone around', async () => {
    const etcd = await secured();
    const dead = `https://127.0.0.1:${await freePort()}`;
    const named = `https://localhost:${etcd.place.port}`;
    const seen = open(etcd, { endpoints: [dead, named] });
    await until('it is up', () => seen.isHeld);
    expect(seen.links.at(-1)).toEqual([true, named]);
  });
});
