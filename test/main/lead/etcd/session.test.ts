/** What a session makes of an etcd that is another one than before. */
import { afterEach, expect, test } from 'vitest';
import type { Link, LinkHooks, Pair } from '#src/main/lead/etcd/link.js';
import { EtcdSession } from '#src/main/lead/etcd/session.js';
import { twoClocks } from '#src/main/runtime/two-clocks.js';
import { until } from '../../../support/cluster.js';

const TTL_MS = 2_000;
let session: EtcdSession;

afterEach(() => session.close());

function linkTo(pairs: Pair[], hooks: LinkHooks): Link {
  return {
    list: async () => ({ pairs, revision: 9 }),
    get: async () => undefined,
    write: async () => [9],
    grant: async () => ({ lease: 'l', sent: twoClocks(), ttlMs: TTL_MS }),
    revoke: async () => undefined,
    openKeepAlive: async () => undefined,
    keep: () => hooks.kept(twoClocks(), TTL_MS),
    silentMs: 0,
    openWatch: async () => undefined,
    close: () => undefined,
  };
}

test('one that was restored says something else under the revision that was known', async () => {
  const told: string[] = [];
  const links: LinkHooks[] = [];
  const rows = ['before', 'restored'].map((value) => [{ key: 'p/x', value, revision: 5 }]);
  session = new EtcdSession(
    { endpoints: ['one'], ttlMs: TTL_MS, prefix: 'p/' },
    {
      up: () => undefined,
      changed: (keys) => told.push(...keys),
      lapsed: () => undefined,
      lost: () => undefined,
      link: () => undefined,
    },
    async (_endpoint, _timeoutMs, hooks) => {
      links.push(hooks);
      return linkTo(rows[links.length - 1]!, hooks);
    },
  );
  session.start();
  await until('it is up', () => session.isUp);
  links[0]!.failed('it ends');
  await until('it is up again', () => links.length === 2 && session.isUp);
  expect(session.view.get('p/x')!.value).toBe('restored');
  expect(told).toEqual(['p/x', 'p/x']);
});
