/** `npm run lag-error -- --seeds N [--from SEED]`: figures of lag against exact times. */
import { runSeeds } from '../sim/seeds.js';
import { LagHistory } from './lag-history.js';

await runSeeds({
  script: 'lag-error',
  description: 'Random outages, bursts and paces: lag is off by 5 % or 100 ms at most.',
  result: 'lag-error.json',
  run: (seed) => Promise.resolve(LagHistory.ofNode(seed)),
  figures: (all) => ({
    looks: all.reduce((sum, { looks }) => sum + looks, 0),
    groups: all.reduce((sum, { groups }) => sum + groups, 0),
    worstMsPercent: percent(Math.max(...all.map(({ msShare }) => msShare))),
    worstBytesPercent: percent(Math.max(...all.map(({ bytesShare }) => bytesShare))),
    rowsMax: Math.max(...all.map(({ rows }) => rows)),
    longestOutageDays: Math.floor(Math.max(...all.map(({ outageMs }) => outageMs)) / 86_400_000),
  }),
  summary: ({ looks, worstMsPercent, worstBytesPercent, rowsMax }) =>
    `${looks} looks, at worst ${worstMsPercent} % of ms and ${worstBytesPercent} % of bytes off, ` +
    `at most ${rowsMax} rows a space`,
});

function percent(share: number): number {
  return Math.round(10_000 * share) / 100;
}
