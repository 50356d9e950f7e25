import { expect, test } from 'vitest';
import {
  allocateCounters,
  CounterWords,
  histogramCounters,
  observe,
  readHistogram,
} from '#src/shared/memory/counter-words.js';

test('a counter carries over 32 bits, in small steps and in large ones', () => {
  const words = new CounterWords(allocateCounters(3));
  let sum = 0;
  for (const by of [0, 1, 2 ** 31, 2 ** 31 - 1, 1, 2 ** 32 - 1, 2 ** 32, 7, 2 ** 40 + 5, 2 ** 32]) {
    words.add(1, by);
    sum += by;
    expect(words.value(1)).toBe(sum);
  }
  expect([words.value(0), words.value(2)]).toEqual([0, 0]);
});

test('a histogram holds what is at most its bounds, all of it and the sum', () => {
  const bounds = [1, 5, 10];
  const layout = { first: 1, bounds, scale: 1_000 };
  const words = new CounterWords(allocateCounters(2 + histogramCounters(bounds)));
  for (const value of [0, 1, 1.001, 5, 10, 11, 5_000]) observe(words, layout, value);
  observe(words, layout, 2.5, 100);
  expect(readHistogram(words, layout)).toEqual({
    upTo: [2, 104, 105],
    count: 107,
    sum: 5_028.001 + 250,
  });
  expect([words.value(0), words.value(6)]).toEqual([0, 0]);
});
