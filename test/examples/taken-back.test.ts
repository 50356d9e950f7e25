/** Examples whose leader stood still while another one came to lead: they undo what only it had. */
import path from 'node:path';
import { expect, test } from 'vitest';
import { EachTest } from '../support/cluster.js';
import { Example, Overtaken } from '../support/example.js';

const each = new EachTest();
const dirOf = (name: string): string => path.join(each.folder, name);
const pairOf = (file: string): Promise<Overtaken> =>
  Overtaken.make(each, (name, places) => new Example(each, file, dirOf(name), name, ...places));

test('kv-store.ts', async () => {
  const pair = await pairOf('kv-store.ts');
  await pair.answer('a', 'put old kept', /^ok/);
  await pair.answer('b', 'get old', /^kept$/);
  pair.cutOff();
  await pair.answer('a', 'put lost x', /^ok/);
  await pair.answer('a', 'put old changed', /^ok/);
  await pair.answer('a', 'get old', /^changed$/);
  await pair.promote(dirOf('b/log'), 'kv');
  await pair.answer('b', 'put new by-b', /^ok/);
  await pair.answer('a', 'get new', /^by-b$/);
  expect(await pair.answer('a', 'get lost', /^(?!no )/)).toBe('(none)');
  expect(await pair.answer('a', 'get old', /^(?!no )/)).toBe('kept');
}, 180_000);

test('event-store.ts', async () => {
  const pair = await pairOf('event-store.ts');
  await pair.answer('a', 'deposit anna 20', /^ok/);
  await pair.answer('b', 'balance anna', /balance 20$/);
  pair.cutOff();
  await pair.answer('a', 'deposit anna 100', /\(AckTimeout\)$/);
  await pair.answer('a', 'balance anna', /balance 120$/);
  await pair.promote(dirOf('b'), 'anna');
  await pair.answer('b', 'deposit anna 1', /balance 21$/);
  await pair.answer('a', 'balance anna', /balance 21$/);
  await pair.answer('a', 'withdraw anna 22', /only 21 there/);
}, 180_000);
