/** `engram-wal cert`: what it makes, for whom, and what it never does. */
import { X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { EachTest } from '../../support/cluster.js';
import { startCommand } from '../../support/command-line.js';

const life = new EachTest();
const run = (...args: string[]) => startCommand(life.folder, args).ended;
const at = (...names: string[]): string => path.join(life.folder, ...names);
const modeOf = (file: string): string => (fs.statSync(file).mode & 0o777).toString(8);

describe('cert', () => {
  test('makes an authority and a node’s certificate that two nodes talk by', async () => {
    const made = await run('cert', 'ca', at('ca'), '--cluster', 'test');
    expect(made).toMatchObject({ code: 0, stderr: '' });
    expect(made.stdout).toBe(`${at('ca', 'ca.pem')}\n${at('ca', 'ca.key')}\n`);
    const of = ['--ca', at('ca'), '--cluster', 'test', '--host', 'localhost', '127.0.0.1'];
    for (const node of ['a', 'b']) {
      const { code } = await run('cert', 'node', at(`tls-${node}`), ...of, '--node', node);
      expect(code).toBe(0);
    }
    expect([modeOf(at('ca', 'ca.key')), modeOf(at('tls-a', 'key.pem'))]).toEqual(['600', '600']);
    const own = new X509Certificate(fs.readFileSync(at('tls-a', 'cert.pem')));
    const names = 'URI:engram-wal:test/a, DNS:localhost, IP Address:127.0.0.1';
    expect(own.subjectAltName).toBe(names);
    const ca = new X509Certificate(fs.readFileSync(at('tls-a', 'ca.pem')));
    expect(own.verify(ca.publicKey) && own.checkIssued(ca)).toBe(true);
    expect([ca.ca, own.ca]).toEqual([true, false]);
    const days = (Date.parse(own.validTo) - Date.now()) / 86_400_000;
    expect(Math.round(days)).toBe(365);

    const tlsOf = (node: string) => ({
      caFile: at(`tls-${node}`, 'ca.pem'),
      certFile: at(`tls-${node}`, 'cert.pem'),
      keyFile: at(`tls-${node}`, 'key.pem'),
    });
    const listen = { host: '127.0.0.1', port: 0 };
    const b = await life.start('b', { listen, tls: tlsOf('b') });
    const a = await life.start('a', {
      replicas: [{ nodeId: 'b', ...b.address! }],
      tls: tlsOf('a'),
    });
    const space = await a.openSpace('s');
    await space.append(1, Buffer.from('x'), { ack: { replicas: 1 } });
  });

  test('writes over nothing, and says what is wrong', async () => {
    await run('cert', 'ca', at('ca'), '--cluster', 'test');
    const before = fs.readFileSync(at('ca', 'ca.key'), 'utf8');
    const again = await run('cert', 'ca', at('ca'), '--cluster', 'test');
    expect(again.code).toBe(4);
    expect(again.stderr).toContain('ca.pem is there already, and is left as it is');
    expect(fs.readFileSync(at('ca', 'ca.key'), 'utf8')).toBe(before);
    const node = ['--cluster', 'test', '--node', 'a'];
    const none = await run('cert', 'node', at('x'), '--ca', at('none'), ...node);
    expect(none).toMatchObject({ code: 4 });
    expect(none.stderr).toContain('ENOENT');
    expect((await run('cert', 'node', at('x'), '--ca', at('ca'), '--node', 'a')).code).toBe(4);
    const long = await run('cert', 'ca', at('y'), '--cluster', 'x'.repeat(300));
    expect(long.stderr).toContain('the cluster has 300 bytes');
    await run('cert', 'ca', at('other'), '--cluster', 'test');
    fs.copyFileSync(at('ca', 'ca.pem'), at('other', 'ca.pem'));
    const odd = await run('cert', 'node', at('x'), '--ca', at('other'), ...node);
    expect(odd).toMatchObject({ code: 4 });
    expect(odd.stderr).toContain('ca.key is the key of another authority than ca.pem there');
    // A key that everybody could read vouches for nobody.
    fs.chmodSync(at('ca', 'ca.key'), 0o644);
    const open = await run('cert', 'node', at('x'), '--ca', at('ca'), ...node);
    expect(open).toMatchObject({ code: 4 });
    expect(open.stderr).toContain('ca.key: it can be read or written by others (mode 0644)');
    expect(fs.existsSync(at('x'))).toBe(false);
  });
});
