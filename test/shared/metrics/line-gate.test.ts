import { describe, expect, test } from 'vitest';
import { LINE_WINDOW_MS, LINES_PER_EVENT, LINES_PER_SUBJECT } from '#src/shared/limits.js';
import { LineGate } from '#src/shared/metrics/line-gate.js';

function pass(gate: LineGate, event: string, subjects: readonly string[], nowMs: number): number {
  return subjects.filter((subject) => gate.admit(event, subject, nowMs)).length;
}

describe('the gate of log lines', () => {
  test('of one subject some pass, the rest are counted once the window is over', () => {
    const gate = new LineGate();
    const many = new Array<string>(1_000).fill('b');
    expect(pass(gate, 'state', many, 0)).toBe(LINES_PER_SUBJECT);
    expect(gate.over(LINE_WINDOW_MS - 1)).toEqual([]);
    const count = 1_000 - LINES_PER_SUBJECT;
    expect(gate.over(LINE_WINDOW_MS)).toEqual([{ event: 'state', subject: 'b', count }]);
    expect(gate.over(2 * LINE_WINDOW_MS)).toEqual([]);
    expect(gate.admit('state', 'b', LINE_WINDOW_MS)).toBe(true);
  });

  test('a noisy subject does not silence another, nor one event the other', () => {
    const gate = new LineGate();
    pass(gate, 'state', new Array<string>(50).fill('b'), 0);
    expect(gate.admit('state', 'c', 0)).toBe(true);
    expect(gate.admit('role', 'b', 0)).toBe(true);
  });

  test('a million lines of a million subjects: few pass, memory does not grow', () => {
    const gate = new LineGate();
    let passed = 0;
    for (let i = 0; i < 1_000_000; i++) if (gate.admit('role', `s${i}`, 0)) passed++;
    expect(passed).toBe(LINES_PER_EVENT);
    expect(gate.over(LINE_WINDOW_MS)).toEqual([
      { event: 'role', subject: '', count: 1_000_000 - LINES_PER_EVENT },
    ]);
  });

  test('what is over in no window is told for its event alone', () => {
    const gate = new LineGate();
    pass(gate, 'a', new Array<string>(20).fill('x'), 0);
    pass(gate, 'b', new Array<string>(20).fill('y'), 5_000);
    expect(gate.nextMs).toBe(LINE_WINDOW_MS);
    expect(gate.over(LINE_WINDOW_MS).map((held) => held.event)).toEqual(['a']);
    expect(gate.nextMs).toBe(LINE_WINDOW_MS + 5_000);
  });
});
