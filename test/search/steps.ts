/**
 * Everything that may happen next in a small cluster. A message that is lost is a step that does
 * not come, or a promise whose answer does not; one that is late comes in a later state.
 */
import type { Cluster } from './cluster.js';
import {
  DATA,
  EPOCH,
  inSet,
  LETTERS,
  NOBODY,
  PENDING,
  SETTLED,
  type SetCode,
  setCode,
  setName,
} from './logs.js';
import type { State } from './state.js';
import * as S from './state.js';

export const STEPS = [
  'candidate',
  'promises',
  'promise-lost',
  'fetches',
  'leads',
  'begins',
  'ships',
  'ack-lost',
  'late-batch',
  'late-question',
  'appends',
  'changes',
  'settles',
  'floor',
  'restarts',
  'wiped',
] as const;
export type Step = (typeof STEPS)[number];

const codeOf = (step: Step, c: number, m = 0, x = 0): number =>
  (STEPS.indexOf(step) << 20) | (c << 16) | (m << 12) | x;
export const stepOf = (code: number): Step => STEPS[code >> 20]!;

export function told(code: number): string {
  const [c, m] = [LETTERS[(code >> 16) & 15]!, LETTERS[(code >> 12) & 15]!];
  const x = code & 4095;
  switch (stepOf(code)) {
    case 'candidate':
      return `${c} is a candidate in epoch ${x}`;
    case 'promises':
      return `${m} answers ${c}'s question for a promise`;
    case 'promise-lost':
      return `${m} promises ${c}, its answer is lost`;
    case 'fetches':
      return `${c} takes over the log of ${m}`;
    case 'leads':
      return `${c} LEADS`;
    case 'ships':
      return `${c} ships to ${m}`;
    case 'ack-lost':
      return `${c} ships to ${m}, whose ack is lost`;
    case 'late-batch':
      return `a batch of epoch ${x} comes late to ${c}`;
    case 'late-question':
      return `${c}'s question for epoch ${x} comes to ${m} once more`;
    case 'changes':
      return `${c} changes the members to ${setName(x)}`;
    default:
      return `${c} ${stepOf(code)}`;
  }
}

export type Emit = (code: number) => void;

/** Calls `emit` for each, with what comes of it in `t`, which is emit's from then on. */
export function steps(cluster: Cluster, s: State, t: State, emit: Emit): void {
  const { config } = cluster;
  for (let c = 0; c < config.nodes; c++) {
    if (s[S.FOUNDER + c] === NOBODY) continue;
    if (s[S.ROLE + c] !== 1) candidacies(cluster, s, t, c, emit);
    if (cluster.isCandidate(s, c)) elections(cluster, s, t, c, emit);
    if (s[S.ROLE + c] === 1) leading(cluster, s, t, c, emit);
    const isBegun = s[S.ROLE + c] === 1 && s[S.MATCH + c] !== (S.UNMATCHED | S.RESTARTED);
    if (config.crashes && isBegun) {
      t.set(s);
      cluster.restarts(t, c);
      emit(codeOf('restarts', c));
    }
  }
  if (config.late) lateMessages(cluster, s, t, emit);
  if (s[S.WIPES]! >= config.wipes) return;
  for (let d = 0; d < config.nodes; d++) {
    if (s[S.FOUNDER + d] === NOBODY) continue;
    t.set(s);
    cluster.wipes(t, d);
    emit(codeOf('wiped', d));
  }
}

function lateMessages(cluster: Cluster, s: State, t: State, emit: Emit): void {
  const { nodes, epochs } = cluster.config;
  for (let r = 0; r < nodes; r++) {
    if (s[S.FOUNDER + r] === NOBODY) continue;
    for (let epoch = 1; epoch <= epochs; epoch++) {
      t.set(s);
      if (cluster.comesLate(t, r, epoch)) emit(codeOf('late-batch', r, 0, epoch));
      for (let c = 0; c < nodes; c++) {
        if (c === r || ((s[S.ASKED]! >>> (4 * epoch + c)) & 1) === 0) continue;
        t.set(s);
        // Nobody waits for this answer any more.
        if (cluster.promises(t, r, c, epoch)) emit(codeOf('late-question', c, r, epoch));
      }
    }
  }
}

function candidacies(cluster: Cluster, s: State, t: State, c: number, emit: Emit): void {
  const { epochs, etcd } = cluster.config;
  if (!cluster.mayTry(s, c)) return;
  let top = 0;
  for (let d = 0; d < 4; d++) top = Math.max(top, s[S.SEEN + d]!);
  const row = s[S.ROW_EPOCH]! + 1;
  const first = etcd ? Math.max(row, s[S.SEEN + c]! + 1) : s[S.SEEN + c]! + 1;
  const last = Math.min(epochs, etcd ? first : top + 1);
  for (let epoch = first; epoch <= last; epoch++) {
    t.set(s);
    cluster.candidacy(t, c, epoch);
    if (etcd) {
      t[S.ROW_EPOCH] = epoch;
      t[S.ROW_LEADER] = c;
    }
    emit(codeOf('candidate', c, 0, epoch));
  }
}

function elections(cluster: Cluster, s: State, t: State, c: number, emit: Emit): void {
  const { asks, fetch, mayLead } = cluster.outlook(s, c);
  const epoch = s[S.SEEN + c]!;
  for (const m of asks) {
    if (s[S.FOUNDER + m] === NOBODY) continue;
    t.set(s);
    if (cluster.promises(t, m, c, epoch) && s[S.SEEN + m] !== epoch) {
      emit(codeOf('promise-lost', c, m));
    }
    t.set(s);
    if (cluster.promises(t, m, c, epoch)) cluster.promised(t, c, m, s[S.LOG + m]!);
    else cluster.hears(t, c, s[S.SEEN + m]!);
    emit(codeOf('promises', c, m));
  }
  if (fetch >= 0) {
    t.set(s);
    if (cluster.fetches(t, c, fetch)) emit(codeOf('fetches', c, fetch));
  }
  if (!mayLead || s[S.PROMISED + c] !== c || s[S.EPOCH_OF + c]! >= epoch) return;
  t.set(s);
  cluster.leads(t, c);
  if (!cluster.config.splits) cluster.append(t, c, EPOCH);
  emit(codeOf('leads', c));
}

function leading(cluster: Cluster, s: State, t: State, c: number, emit: Emit): void {
  const { config, logs } = cluster;
  for (let r = 0; r < config.nodes; r++) {
    if (r === c) continue;
    t.set(s);
    if (cluster.ships(t, c, r)) emit(codeOf('ships', c, r));
    if (!config.late) continue;
    t.set(s);
    if (cluster.ships(t, c, r, false)) emit(codeOf('ack-lost', c, r));
  }
  const epoch = s[S.EPOCH_OF + c]!;
  const log = s[S.LOG + c]!;
  if (epoch > 1 && logs.epoch(log) < epoch) {
    t.set(s);
    cluster.append(t, c, EPOCH);
    emit(codeOf('begins', c));
    return;
  }
  if (s[S.ENTRIES]! < config.data) {
    t.set(s);
    t[S.ENTRIES] = t[S.ENTRIES]! + 1;
    cluster.append(t, c, DATA);
    emit(codeOf('appends', c));
  }
  if (s[S.CHANGES]! < config.changes && cluster.mayChange(s, c)) {
    const old = cluster.setOf(s, c);
    for (const next of targets(cluster, s, c, old)) {
      t.set(s);
      t[S.CHANGES] = t[S.CHANGES]! + 1;
      cluster.append(t, c, PENDING, next | (old << 9));
      emit(codeOf('changes', c, 0, next));
    }
  }
  if (cluster.maySettle(s, c)) {
    t.set(s);
    cluster.append(t, c, SETTLED, cluster.setOf(s, c));
    emit(codeOf('settles', c));
  }
  if (config.etcd && cluster.mayWriteFloor(s, c)) {
    t.set(s);
    t[S.FLOOR] = logs.changeIn(log);
    emit(codeOf('floor', c));
  }
}

/** Every other set with this primary in it; a wiped node comes in with its new directory. */
function targets(cluster: Cluster, s: State, c: number, old: SetCode): SetCode[] {
  const found: SetCode[] = [];
  const { nodes, keeps } = cluster.config;
  let wiped = 0;
  for (let d = 0; d < nodes; d++) wiped |= s[S.WIPED + d]! << d;
  for (let who = 1; who < 1 << nodes; who++) {
    if (!inSet(who, c)) continue;
    for (const keep of keeps ? [1, 2] : [1]) {
      // A directory that is gone may stay named, or be exchanged.
      const stays = (old >> 4) | (~old & wiped & 15);
      for (const second of new Set([stays & who, (stays | wiped) & who])) {
        const next = setCode(who, second, keep);
        if (next !== old) found.push(next);
      }
    }
  }
  return found;
}
