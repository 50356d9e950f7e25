import { expect, test } from 'vitest';
import { RoleQueue } from '#src/main/lead/role-queue.js';

const a = 'a';
const b = 'b';

test('one space in turn, several beside each other, the whole node alone', async () => {
  const queue = new RoleQueue();
  const told: string[] = [];
  const open: (() => void)[] = [];
  const job = (name: string, space?: string): Promise<void> =>
    queue.run(async () => {
      told.push(name);
      await new Promise<void>((resolve) => open.push(resolve));
    }, space);
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  const next = async (n: number): Promise<void> => {
    for (const finish of open.splice(0, n)) finish();
    await turn();
  };
  const all = [job('a1', a), job('b1', b), job('a2', a), job('node'), job('b2', b), job('a3', a)];
  await turn();
  expect(told).toEqual(['a1', 'b1']);
  expect(queue.isIdle(a)).toBe(false);
  expect(queue.isIdle('c')).toBe(false);
  await next(1);
  expect(told).toEqual(['a1', 'b1', 'a2']);
  await next(2);
  expect(told.slice(3)).toEqual(['node']);
  await next(1);
  expect(told.slice(4)).toEqual(['b2', 'a3']);
  const settled = queue.settled.then(() => told.push('settled'));
  await next(1);
  expect(told).not.toContain('settled');
  await next(1);
  await Promise.all([...all, settled]);
  expect(told.at(-1)).toBe('settled');
  expect(queue.isIdle(a)).toBe(true);
});

test('a change that fails ends no turn but its own', async () => {
  const queue = new RoleQueue();
  const failing = queue.run(() => Promise.reject(new Error('no')), a);
  const after = queue.run(() => Promise.resolve('done'), a);
  const last = queue.run(() => Promise.resolve('all'));
  await expect(failing).rejects.toThrow('no');
  expect(await after).toBe('done');
  expect(await last).toBe('all');
  await queue.settled;
});
