/**
 * What nothing can ask for any more is forgotten, so that states which differ in nothing else are
 * one. Each rule says why no later step and no check reads what it takes away.
 */
import type { Cluster } from './cluster.js';
import { NOBODY } from './logs.js';
import type { State } from './state.js';
import * as S from './state.js';

/** In place. */
export function forget(cluster: Cluster, s: State): void {
  const { config } = cluster;
  // Founders that meet, and wiped disks, look back.
  if (config.founders.length === 1) forgetFollowed(s, config.nodes);
  if (config.wipes > 0) return;
  forgetAcked(cluster, s);
  if (config.late) forgetLate(cluster, s);
}

/**
 * Who has seen a higher epoch than it followed in takes nothing of the lower one, whichever it was
 * and whoever led it: `judgePromise` and `judgeIntroduction` look at the one that it has seen.
 */
function forgetFollowed(s: State, nodes: number): void {
  for (let d = 0; d < nodes; d++) {
    if (s[S.ROLE + d] === 1 || s[S.SEEN + d]! <= s[S.EPOCH_OF + d]!) continue;
    s[S.EPOCH_OF + d] = 0;
    s[S.PRIMARY + d] = NOBODY;
  }
}

/** Somebody may yet begin to lead in this epoch, or in a lower one. */
function mayBeLed({ config }: Cluster, s: State, epoch: number): boolean {
  for (let d = 0; d < config.nodes; d++) {
    const seen = s[S.SEEN + d]!;
    if (seen < epoch || (seen === epoch && s[S.ANSWERS + d] !== 0)) return true;
  }
  return false;
}

/**
 * Where what was acknowledged in a later epoch holds what was in an earlier one, only a leader of
 * an epoch between them could have the one and lack the other; and where nobody leads in an epoch
 * or can, nobody else acknowledges in it.
 */
function forgetAcked(cluster: Cluster, s: State): void {
  const { config, logs } = cluster;
  for (let x = 1; x <= config.epochs; x++) {
    if (mayBeLed(cluster, s, x)) return;
    for (let y = x + 1; y <= config.epochs && !mayBeLed(cluster, s, y); y++) {
      const later = s[S.ACKED + y]!;
      if (later === 0 || !logs.isPrefix(s[S.ACKED + x]!, later)) continue;
      s[S.ACKED + x] = 0;
      break;
    }
    let isLed = false;
    for (let d = 0; d < config.nodes; d++) {
      isLed ||= s[S.ROLE + d] === 1 && s[S.EPOCH_OF + d] === x;
    }
    if (!isLed) s[S.ACKED_BY + x] = NOBODY;
  }
}

/**
 * Batches that are late come to who still follows in their epoch and lacks something of them; a
 * leader that ships once more has shipped at least as much. A question that is late is refused by
 * who has seen a higher epoch, or has given its promise of this one.
 */
function forgetLate({ config, logs }: Cluster, s: State): void {
  for (let epoch = 1; epoch <= config.epochs; epoch++) {
    const shipped = s[S.SHIPPED + epoch]!;
    let isWanted = false;
    let isOpen = false;
    for (let d = 0; d < config.nodes; d++) {
      const seen = s[S.SEEN + d]!;
      isOpen ||= seen < epoch || (seen === epoch && s[S.PROMISED + d] === NOBODY);
      const follows = seen === epoch && s[S.EPOCH_OF + d] === epoch && s[S.ROLE + d] !== 1;
      isWanted ||= follows && !logs.isPrefix(shipped, s[S.LOG + d]!);
    }
    if (!isWanted) s[S.SHIPPED + epoch] = 0;
    if (!isOpen) s[S.ASKED] = s[S.ASKED]! & ~(15 << (4 * epoch));
  }
}
