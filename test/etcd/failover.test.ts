/** A minute of the failover campaign (test/failover/failover.ts has the long run). */
import { expect, test } from 'vitest';
import { random } from '../campaign/campaign-facts.mjs';
import { Campaign } from '../failover/campaign.js';
import { makeFolder, removeFolder } from '../support/cluster.js';

test('leaders are lost in all ways and replaced under load; nothing promised is lost', async () => {
  const folder = makeFolder();
  try {
    const seed = Number(process.env.SEED ?? 7);
    const result = await Campaign.run({
      folder,
      rounds: 7,
      random: random(seed),
      say: (line) => console.log(line),
    });
    expect(result.rounds).toEqual({ kill: 2, cut: 2, wipe: 1, stop: 1, swap: 1, etcd: 0 });
    expect(result.failovers.length).toBeGreaterThanOrEqual(7);
    expect(result.switchoverMs).toHaveLength(7);
    expect(result.withReplicas).toBeGreaterThan(100);
  } finally {
    removeFolder(folder);
  }
}, 180_000);
