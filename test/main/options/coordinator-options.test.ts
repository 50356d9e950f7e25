/** The option `coordinator`: what is refused, and what it needs beside it. */
import { describe, expect, test } from 'vitest';
import { readOptions } from '#src/main/options/config.js';
import type { NodeOptions } from '#src/main/options/options.js';

const BASE = { dataDir: 'x', nodeId: 'a', clusterId: 'c' };
const ETCD = { kind: 'etcd', endpoints: ['http://127.0.0.1:2379'] } as const;
const SECURED = 'https://127.0.0.1:2379';
const TLS = { kind: 'etcd', endpoints: [SECURED] } as const;
const LISTEN = { host: '127.0.0.1', port: 7 };

function refusal(more: object): string {
  try {
    readOptions({ ...BASE, listen: LISTEN, ...more } as NodeOptions);
    return '';
  } catch (error) {
    return (error as Error).message.split('\n', 1)[0]!;
  }
}

describe('coordinator', () => {
  test('has defaults', () => {
    expect(readOptions(BASE).coordinator).toEqual({ kind: 'static' });
    const { coordinator, lead } = readOptions({ ...BASE, listen: LISTEN, coordinator: ETCD });
    const defaults = {
      ttlMs: 5_000,
      prefix: 'engram-wal',
      replicasPerSpace: 2,
      autoRebalance: true,
    };
    expect(coordinator).toEqual({ ...ETCD, ...defaults });
    expect(lead).toBe(true);
  });

  test.each([
    ['a string', 'etcd', 'kind'],
    ['no such kind', { kind: 'zookeeper' }, 'kind'],
    ['options of another kind', { kind: 'static', ttlMs: 2_000 }, 'ttlMs'],
    ['no endpoint', { kind: 'etcd', endpoints: [] }, 'endpoints'],
    ['no URL', { kind: 'etcd', endpoints: ['127.0.0.1:2379'] }, 'http://host:port'],
    [
      'no scheme of etcd',
      { kind: 'etcd', endpoints: ['ftp://127.0.0.1:2379'] },
      'https://host:port',
    ],
    ['some in clear', { kind: 'etcd', endpoints: [...ETCD.endpoints, SECURED] }, 'endpoints'],
    ['tls in clear', { ...ETCD, tls: { caFile: 'ca.pem' } }, 'coordinator.tls'],
    ['half a pair', { ...TLS, tls: { certFile: 'cert.pem' } }, 'certFile and keyFile'],
    ['no file', { ...TLS, tls: { caFile: 7 } }, 'coordinator.tls.caFile'],
    ['an unknown file', { ...TLS, tls: { crlFile: 'x' } }, 'coordinator.tls'],
    ['a user without a password', { ...TLS, user: 'node' }, 'coordinator.passwordFile'],
    ['a password of nobody', { ...TLS, passwordFile: 'p' }, 'coordinator.user'],
    ['the password itself', { ...TLS, user: 'node', password: 'x' }, 'password'],
    [
      'a password in clear over a network',
      { kind: 'etcd', endpoints: ['http://10.0.0.9:2379'], user: 'node', passwordFile: 'p' },
      'https://, with a user',
    ],
    ['a path', { kind: 'etcd', endpoints: ['http://127.0.0.1:2379/x'] }, 'http://host:port'],
    ['half seconds', { ...ETCD, ttlMs: 2_500 }, 'ttlMs'],
    ['too short a lease', { ...ETCD, ttlMs: 1_000 }, 'ttlMs'],
    ['an odd prefix', { ...ETCD, prefix: '/a/' }, 'prefix'],
    ['neither yes nor no', { ...ETCD, autoRebalance: 'never' }, 'coordinator.autoRebalance'],
    ['no count', { ...ETCD, replicasPerSpace: -1 }, 'replicasPerSpace'],
    ['no port', { ...ETCD, advertise: { host: '127.0.0.1', port: 0 } }, 'advertise'],
    ['an unknown one', { ...ETCD, leases: 3 }, 'leases'],
  ])('refuses %s', (_, coordinator, named) => {
    const found = refusal({ coordinator });
    expect(found).toContain('Configuration: option coordinator');
    expect(found).toContain(named);
  });

  test('needs an address that others can dial, and says where replicas come from', () => {
    expect(refusal({ coordinator: ETCD, listen: undefined })).toContain('without listen');
    const replicas = [{ nodeId: 'b', host: '127.0.0.1', port: 8 }];
    expect(refusal({ coordinator: ETCD, replicas })).toContain('with replicas');
    const key = 'a key of sixteen bytes';
    const anywhere = { listen: { host: '0.0.0.0', port: 7 }, key };
    expect(refusal({ coordinator: ETCD, ...anywhere })).toContain('give advertise');
    const advertise = { host: '10.0.0.1', port: 7 };
    expect(refusal({ coordinator: { ...ETCD, advertise }, ...anywhere })).toBe('');
    const far = { ...ETCD, endpoints: ['http://10.0.0.9:2379'] };
    expect(refusal({ coordinator: far })).toContain('neither key nor tls');
    expect(refusal({ coordinator: far, key })).toBe('');
    // With TLS it is etcd that is proved, and who we are, too.
    const tls = { caFile: 'ca.pem', certFile: 'cert.pem', keyFile: 'key.pem' };
    const secured = { ...TLS, endpoints: ['https://etcd.example:443'], tls };
    expect(refusal({ coordinator: secured })).toBe('');
    expect(refusal({ coordinator: { ...secured, user: 'node', passwordFile: 'p' } })).toBe('');
  });
});
