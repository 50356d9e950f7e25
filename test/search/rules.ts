/**
 * The decisions that the search drives: the product's own, all of them; and mutants, each of which
 * puts one bug back into one of them.
 */
import { divergenceOf, verdictOf } from '#src/shared/lead/epoch.js';
import { judgeFounders } from '#src/shared/lead/founders.js';
import { judgeHeard, judgeIntroduction, judgePromise } from '#src/shared/lead/heard.js';
import {
  judgePromotion,
  type PromotionQuestion,
  promisesSuffice,
  type Standing,
} from '#src/shared/lead/promotion-verdict.js';
import type { MemberId } from '#src/shared/members/members.js';
import {
  acknowledgedUpTo,
  isEnough,
  isFounded,
  leadsAlone,
  mayChange,
  maySettle,
  mayWriteFloor,
} from '#src/shared/members/quorum.js';
import type { Config } from './cluster.js';
import { memberOf, setCode } from './logs.js';

export const PRODUCT = {
  acknowledgedUpTo,
  maySettle,
  mayWriteFloor,
  mayChange,
  isFounded,
  leadsAlone,
  judgePromotion,
  promisesSuffice,
  judgeFounders,
  judgeHeard,
  judgeIntroduction,
  judgePromise,
  verdictOf,
  divergenceOf,
  memberOf,
  /** What is fetched ends in the entry that the answer has named. */
  isEndChecked: true,
};
export type Rules = typeof PRODUCT;

export interface Mutant {
  readonly what: string;
  /** Beside what every mutant is looked for in. */
  readonly config?: Partial<Config>;
  readonly rules: Partial<Rules>;
  /** Steps that have been taken before, where it would be too deep otherwise. */
  readonly start?: readonly string[];
  /** It breaks no promise, but leaves a cluster without a leader. */
  readonly isHealed?: boolean;
  /** Too deep to be looked for breadth first: by random walks. */
  readonly isWalked?: boolean;
}

const AB = setCode(0b011);
const ABC = setCode(0b111);
const ABCD = setCode(0b1111);

/** Who has answered at all counts. */
function anyVoter(question: PromotionQuestion) {
  const verdict = judgePromotion(question);
  const got = 1 + question.answers.length;
  const counts = verdict.counts.map((c) => ({ ...c, got: Math.max(c.got, got) }));
  const { fetch, mustLead, isMember } = verdict;
  const isQualified = !fetch && !mustLead && isMember && isEnough(counts);
  return { ...verdict, asks: everybody(question), isQualified, strangers: [] };
}

function everybody({ own, answers }: PromotionQuestion): MemberId[] {
  const known = [own, ...answers].map((m) => m.nodeId);
  return [0, 1, 2, 3].map((n) => memberOf(n, 0)).filter((m) => !known.includes(m.nodeId));
}

/** The newest set in any answer counts, whether its entry is here or not. */
function newestSet(question: PromotionQuestion): PromotionQuestion {
  const newest = [question.own, ...question.answers].reduce<Standing>((best, a) => {
    const [x, y] = [best.rows.at(-1)!, a.rows.at(-1)!];
    return (y.epoch - x.epoch || y.sequence - x.sequence) > 0 ? a : best;
  }, question.own);
  return { ...question, own: { ...question.own, rows: newest.rows } };
}

const whole = { isEnough: true, counts: [] };

export const MUTANTS: readonly Mutant[] = [
  {
    what: 'acknowledged by the new set alone while a change is pending',
    rules: {
      acknowledgedUpTo: (sets, level, progress) =>
        acknowledgedUpTo(sets.slice(-1), level, progress),
    },
  },
  {
    what: 'a promotion by the new set alone while a change is pending',
    rules: {
      judgePromotion: (q) => judgePromotion(bySettled(q)),
      promisesSuffice: () => whole,
    },
  },
  {
    what: 'votes of who is no member',
    config: { nodes: 4, founders: [ABC], changes: 0, epochs: 2 },
    rules: { judgePromotion: anyVoter, promisesSuffice: () => whole },
  },
  {
    what: 'votes of removed members',
    config: { nodes: 4, founders: [ABCD], changes: 1, epochs: 3, data: 2 },
    rules: { judgePromotion: anyVoter, promisesSuffice: () => whole },
    isWalked: true,
  },
  {
    what: 'wiped voters: a member is a name',
    config: { wipes: 1 },
    rules: { memberOf: (node) => memberOf(node, 0) },
  },
  {
    what: 'figure 8: an older epoch is acknowledged without an entry of the present one',
    config: { founders: [ABC], epochs: 4, changes: 0 },
    rules: {
      acknowledgedUpTo: (sets, level, progress) =>
        acknowledgedUpTo(sets, level, { ...progress, first: 1 }),
    },
  },
  {
    what: 'figure 8: settled without the first entry of the present epoch',
    config: { nodes: 4, founders: [ABC], epochs: 4, changes: 1, data: 0 },
    start: [
      'A ships to B',
      'A ships to C',
      'A changes the members to {AD}',
      'B is a candidate in epoch 2',
      "C answers B's question for a promise",
      'B LEADS',
      'A ships to C',
    ],
    rules: {
      maySettle: (row, progress, floor) => maySettle(row, { ...progress, first: 1 }, floor),
    },
  },
  {
    what: 'a set of a dead branch counts',
    config: { isExact: true },
    rules: {
      judgePromotion: (q) => judgePromotion(newestSet(q)),
      promisesSuffice: () => whole,
    },
  },
  {
    what: 'two founders: acknowledged before enough follow, histories compared',
    config: { founders: [ABC, ABC], epochs: 3, changes: 0, data: 2 },
    rules: {
      isFounded: () => true,
      judgePromotion: (q) => judgePromotion(withoutFounders(q)),
    },
  },
  {
    what: 'two founders: histories compared',
    config: { founders: [ABC, ABC], epochs: 3, changes: 0, data: 3 },
    rules: { judgePromotion: (q) => judgePromotion(withoutFounders(q)) },
  },
  {
    what: 'two founders: one that was started anew takes its followers for none',
    config: { founders: [ABC, ABC], epochs: 1, changes: 0, data: 2, crashes: true },
    rules: {
      judgeFounders: (own, other, leftBy) =>
        judgeFounders({ ...own, isFounded: false }, other, leftBy),
    },
  },
  {
    what: '`heard` is missing where an answer names a higher epoch',
    rules: { judgeHeard: () => 'known' },
  },
  {
    what: 'settled once the new set has it',
    rules: {
      maySettle: (row, progress, floor) =>
        row.old !== undefined && maySettle({ ...row, old: row.next }, progress, floor),
    },
  },
  {
    what: 'a change begins while another one is pending',
    config: { epochs: 2, data: 0 },
    rules: { mayChange: () => true },
  },
  {
    what: 'the farthest log is not taken over',
    rules: {
      judgePromotion: (q) => {
        const verdict = judgePromotion(q);
        const { counts, isMember } = verdict;
        const isQualified = isMember && isEnough(counts);
        return { ...verdict, isQualified, fetch: undefined, mustLead: undefined };
      },
    },
  },
  {
    what: 'an epoch is promised to two candidates',
    config: { founders: [ABC], changes: 0, epochs: 4 },
    rules: {
      judgePromise: (own, epoch, candidate) =>
        epoch === own.epochSeen && own.epoch < epoch
          ? 'grant'
          : judgePromise(own, epoch, candidate),
    },
  },
  {
    what: 'a batch of a lower epoch than was promised is taken',
    rules: {
      judgeIntroduction: (own, epoch, primary, isAlone) =>
        epoch >= own.epoch
          ? judgeIntroduction({ ...own, epochSeen: own.epoch }, epoch, primary, isAlone)
          : 'fenced',
    },
  },
  {
    what: "a leader without the entry of etcd's floor",
    config: { etcd: true },
    rules: { judgePromotion: (q) => judgePromotion({ ...q, floor: undefined }) },
  },
  {
    what: "etcd's floor before the new set has the entry",
    config: { etcd: true, changes: 1, data: 0, epochs: 2 },
    rules: { mayWriteFloor: (row) => row.old !== undefined },
    isHealed: true,
  },
  {
    what: 'a diverged suffix is kept: only lengths are compared',
    config: { founders: [AB] },
    rules: {
      divergenceOf: (ours, theirs) => {
        const last = Math.min(ours.last, theirs.last);
        return last < ours.last ? last : undefined;
      },
    },
  },
];

/** By its newest set alone. */
function bySettled(question: PromotionQuestion): PromotionQuestion {
  const row = question.own.rows.at(-1)!;
  return { ...question, own: { ...question.own, rows: [{ ...row, old: undefined }] } };
}

function withoutFounders(question: PromotionQuestion): PromotionQuestion {
  const bare = (standing: Standing): Standing => ({ ...standing, founder: '0'.repeat(32) });
  return { ...question, own: bare(question.own), answers: question.answers.map(bare) };
}
