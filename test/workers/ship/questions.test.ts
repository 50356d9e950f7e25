import { expect, test } from 'vitest';
import type { FromShipper } from '#src/shared/link/control.js';
import type { PlainFrame } from '#src/shared/wire/protocol.js';
import { Questions } from '#src/workers/ship/questions.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const SPACES = Array.from({ length: 250 }, (_, n) => ({ id: `id-${n}`, name: `space-${n}` }));

function asking() {
  const told: FromShipper[] = [];
  const writes: (readonly PlainFrame[])[] = [];
  const questions = new Questions(
    (message) => told.push(message),
    (frames) => writes.push(frames),
  );
  return { questions, told, writes };
}

const answer = (id: string) =>
  ({ kind: 'answer', id, known: false, epoch: 0, primary: '' }) as const;

test('what one turn asks is one write, and what one turn answers one message', async () => {
  const { questions, told, writes } = asking();
  questions.ask(SPACES, 'open');
  expect(writes.map((frames) => frames.length)).toEqual([250]);
  for (const { id } of SPACES) questions.answered(answer(id));
  expect(told).toEqual([]);
  await turn();
  const rows = SPACES.map(({ id }) => ({ id, answer: { known: false, epoch: 0, primary: '' } }));
  expect(told).toEqual([{ kind: 'answers', rows }]);
});

test('a link that is lost has answered what it has answered, and nothing else', async () => {
  const { questions, told } = asking();
  questions.ask(SPACES.slice(0, 2), 'open');
  questions.answered(answer('id-1'));
  questions.dropped();
  await turn();
  const nobody = { id: 'id-0', answer: undefined };
  const known = { id: 'id-1', answer: { known: false, epoch: 0, primary: '' } };
  expect(told).toEqual([
    { kind: 'answers', rows: [known] },
    { kind: 'answers', rows: [nobody] },
  ]);
  // Nor does the next one that is lost.
  questions.dropped();
  expect(told).toHaveLength(2);
});

test('what was asked before the link is asked when it opens; without one nobody answers', () => {
  const { questions, told, writes } = asking();
  questions.opened();
  questions.ask(SPACES, 'dialled');
  expect(writes).toEqual([]);
  questions.opened();
  expect(writes.map((frames) => frames.length)).toEqual([250]);
  questions.ask([{ id: 'other', name: 'other' }], 'away');
  expect(told).toEqual([{ kind: 'answers', rows: [{ id: 'other', answer: undefined }] }]);
});
