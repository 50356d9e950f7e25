/** examples/sqlite-per-tenant.ts on three machines: killed, led by another one, counted. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, test } from 'vitest';
import { jsonCodec, openNode } from '#src/main/index.js';
import { EachTest } from '../support/cluster.js';
import { Example, engramWal, Overtaken, placesOf, ROOT } from '../support/example.js';
import { NEEDS, requireHere } from '../support/needs.js';

const NAME = 'sqlite-per-tenant.ts';
const OWN = path.join(import.meta.dirname, 'sqlite/node_modules');
const TENANTS = ['shop', 'bank'];
const ADDS = 120;

interface Change {
  readonly item: string;
  readonly amount: number;
}
type Row = Change & { readonly sequence: number };

const each = new EachTest();
let project: string;

/** A project of somebody else, with the example in it, engram-wal and better-sqlite3. */
beforeEach(() => {
  requireHere(NEEDS.sqlite);
  project = path.join(each.folder, 'project');
  const modules = path.join(project, 'node_modules');
  fs.mkdirSync(path.join(modules, '@types'), { recursive: true });
  for (const name of fs.readdirSync(OWN)) {
    if (!/^[.@]/.test(name)) fs.symlinkSync(path.join(OWN, name), path.join(modules, name));
  }
  fs.symlinkSync(ROOT, path.join(modules, 'engram-wal'));
  const types = path.join(modules, '@types');
  fs.symlinkSync(path.join(ROOT, 'node_modules/@types/node'), path.join(types, 'node'));
  const sqlite = '@types/better-sqlite3';
  fs.cpSync(path.join(OWN, sqlite), path.join(modules, sqlite), { recursive: true });
  fs.writeFileSync(path.join(project, 'package.json'), '{ "type": "module", "private": true }\n');
  fs.copyFileSync(path.join(ROOT, 'examples', NAME), path.join(project, NAME));
});

function rowsOf(file: string): Row[] {
  const Sqlite = createRequire(path.join(OWN, '../package.json'))('better-sqlite3');
  const db = new Sqlite(file, { readonly: true });
  const rows = db.prepare('SELECT sequence, item, amount FROM change ORDER BY rowid').all();
  db.close();
  return rows as Row[];
}

describe(NAME, () => {
  test('its types are right', () => {
    const flags = '--strict --noEmit --module nodenext --target es2023 --types node'.split(' ');
    const tsc = path.join(ROOT, 'node_modules/.bin/tsc');
    execFileSync(tsc, [...flags, NAME], { cwd: project, encoding: 'utf8', timeout: 50_000 });
  });

  test('each entry exactly once in every database, over kill -9 and a failover', async () => {
    const places = (await placesOf('a', 'b', 'c')).join();
    const dirOf = (name: string): string => path.join(each.folder, name);
    const lives: Example[] = [];
    const start = (name: string): Example => {
      const file = path.join(project, NAME);
      const life = new Example(each, file, dirOf(name), name, places, ...TENANTS);
      lives.push(life);
      return life;
    };
    const oks = (life: Example): number => life.lines.filter((l) => l.startsWith('ok ')).length;
    /** Until it has in its databases all that was acknowledged anywhere. */
    const caughtUp = async (life: Example): Promise<void> => {
      for (const tenant of TENANTS) {
        for (let n = 0; ; n++) {
          const told = life.lines.length;
          life.say(`sum ${tenant} nothing`);
          const answer = (): string | undefined =>
            life.lines.slice(told).find((line) => line.includes(`sum ${tenant} nothing`));
          await life.until(`sum ${tenant}`, () => answer() !== undefined);
          if (answer()!.startsWith('sum ')) break;
          if (n > 200) throw new Error(`${tenant} is not here: ${answer()}`);
          await sleep(50);
        }
      }
    };
    let number = 0;
    const asked = new Map<Example, number>();
    const busy = (life: Example, from: string): void => {
      asked.set(life, (asked.get(life) ?? 0) + ADDS * TENANTS.length);
      for (let n = 0; n < ADDS; n++) {
        for (const tenant of TENANTS) life.say(`add ${tenant} ${from}-${number++} ${n + 1}`);
      }
    };
    const isAnswered = (life: Example): boolean =>
      life.lines.filter((l) => /^(ok|no add) /.test(l)).length === asked.get(life);
    const a = start('a');
    const b = start('b');
    let c = start('c');
    for (const life of lives) await caughtUp(life);
    for (const life of lives) busy(life, 'first');
    await a.until('changes', () => oks(a) > 40 && oks(b) > 10 && oks(c) > 10);
    await c.kill();
    c = start('c');
    await caughtUp(c);
    busy(c, 'back');
    busy(a, 'more');
    await c.until('changes', () => oks(c) > 20);
    await a.kill();
    // The one that is farthest: the other one is refused where it lacks what that one has.
    for (const tenant of TENANTS) {
      const promote = (name: string) =>
        engramWal('promote', dirOf(`${name}/log`), '--space', tenant);
      await promote('b').catch(() => promote('c'));
    }
    const before = oks(b) + oks(c);
    for (const life of [b, c]) busy(life, 'second');
    await b.until('changes', () => oks(b) + oks(c) > before + 2 * ADDS);
    const again = start('a');
    await caughtUp(again);
    busy(again, 'third');
    for (const life of [b, c, again]) await life.until('answers', () => isAnswered(life));
    for (const life of [b, c, again]) await caughtUp(life);
    for (const life of [b, c, again]) expect(await life.signal('SIGTERM')).toBe(0);

    const acknowledged = lives.flatMap(({ lines }) => lines.filter((l) => l.startsWith('ok ')));
    expect(acknowledged.length).toBeGreaterThan(5 * ADDS);
    const node = await openNode({ dataDir: dirOf('b/log'), nodeId: 'b', clusterId: 'tenants' });
    each.finally(() => node.close());
    for (const tenant of TENANTS) {
      const space = await node.openSpace(tenant, { codec: jsonCodec<Change>() });
      const log: Row[] = [];
      for await (const { sequence, value } of space.read()) log.push({ sequence, ...value });
      for (const name of ['a', 'b', 'c']) {
        expect(rowsOf(dirOf(`${name}/${tenant}.sqlite`)), `${tenant} of ${name}`).toEqual(log);
      }
      const told = acknowledged.flatMap((line) => {
        const [, of, sequence, item, amount] = line.split(' ');
        return of === tenant ? [`${sequence} ${item} ${amount}`] : [];
      });
      const there = new Set(
        log.map(({ sequence, item, amount }) => `${sequence} ${item} ${amount}`),
      );
      expect(told.filter((one) => !there.has(one))).toEqual([]);
      expect(new Set(log.map(({ item }) => item)).size).toBe(log.length);
    }
    expect(lives.map(({ stderr }) => stderr).join('')).toBe('');
  }, 240_000);

  test('what a leader alone had is undone in its database when another one leads', async () => {
    const dirOf = (name: string): string => path.join(each.folder, name);
    const file = path.join(project, NAME);
    const pair = await Overtaken.make(each, (name, places) => {
      return new Example(each, file, dirOf(name), name, places.join(), 'shop');
    });
    await pair.answer('a', 'add shop apples 3', /^ok/);
    await pair.answer('b', 'sum shop apples', / 3$/);
    pair.cutOff();
    await pair.answer('a', 'add shop lost 5', /\(AckTimeout\)$/);
    await pair.answer('a', 'sum shop lost', / 5$/);
    await pair.promote(dirOf('b/log'), 'shop');
    await pair.answer('b', 'add shop pears 1', /^ok/);
    await pair.answer('a', 'sum shop pears', / 1$/);
    expect(await pair.answer('a', 'sum shop lost', /^sum/)).toBe('sum shop lost 0');
  }, 180_000);
});
