/**
 * A small cluster with one space: what its nodes do with each other's words. All that is decided is
 * decided by the product's own functions (rules.ts); their answers are kept, for the same question
 * comes a million times.
 */
import { comparePositions } from '#src/shared/lead/epoch.js';
import type { Hearer } from '#src/shared/lead/heard.js';
import type { Standing } from '#src/shared/lead/promotion-verdict.js';
import type { MembersRow } from '#src/shared/members/members.js';
import { countingSets, UNKNOWN_DIRECTORY } from '#src/shared/members/members.js';
import type { Progress } from '#src/shared/members/quorum.js';
import { inSet, LETTERS, Logs, membersOf, NOBODY, NODES, PENDING, type SetCode } from './logs.js';
import type { Rules } from './rules.js';
import * as S from './state.js';
import { Answers, matchOf, type State, withMatch } from './state.js';

export interface Config {
  readonly nodes: number;
  /** Version 0 of each founder: of node 0 alone, or of node 0 and node 1. */
  readonly founders: readonly SetCode[];
  readonly epochs: number;
  /** Entries of the host. */
  readonly data: number;
  readonly changes: number;
  /** Places the space: epochs are claimed there, and it may be the witness of a change. */
  readonly etcd: boolean;
  /** Disks that are wiped. */
  readonly wipes: number;
  /** A change may set `keep` to 2. */
  readonly keeps: boolean;
  /** A leader may restart and lead on, knowing nothing of its replicas. */
  readonly crashes: boolean;
  /** A crash between the role and the first entry of its epoch. */
  readonly splits: boolean;
  /** Acks may be lost; batches and questions for promises may come late, and twice. */
  readonly late: boolean;
  /** Answers carry their logs even where these are not ahead. */
  readonly isExact: boolean;
}

/** What a candidate may do next. */
interface Outlook {
  readonly asks: readonly number[];
  /** -1: nobody's log is to be taken over. */
  readonly fetch: number;
  readonly mayLead: boolean;
  readonly isMember: boolean;
}

const NO_ANSWERS: readonly number[] = Array(NODES).fill(0);
const NO_SEQUENCE = { epoch: 0, sequence: 0, headerCrc: 0 };

export class Cluster {
  readonly config: Config;
  readonly rules: Rules;
  readonly logs = new Logs();
  readonly answers = new Answers();
  /** What a check has found; '' while all is well. */
  bad = '';
  readonly #acked = new Map<number, number>();
  readonly #outlooks = new Map<number, Map<number, Outlook>>();
  readonly #verdicts = new Map<number, string>();
  readonly #common = new Map<number, number>();
  readonly #rows = new Map<number, readonly MembersRow[]>();
  readonly #founded = new Map<number, boolean>();
  readonly #settles = new Map<number, boolean>();

  constructor(config: Config, rules: Rules) {
    this.config = config;
    this.rules = rules;
    this.#all = [...Array(config.nodes).keys()];
  }

  first(): State {
    const s = new Int32Array(S.WIDTH);
    for (let d = 0; d < NODES; d++) {
      s[S.PROMISED + d] = NOBODY;
      s[S.PRIMARY + d] = NOBODY;
      s[S.FOUNDER + d] = NOBODY;
    }
    for (let e = 0; e < 8; e++) s[S.ACKED_BY + e] = NOBODY;
    s[S.ROW_EPOCH] = 1;
    for (let d = 0; d < this.config.founders.length; d++) {
      s[S.SEEN + d] = 1;
      s[S.EPOCH_OF + d] = 1;
      s[S.PRIMARY + d] = d;
      s[S.ROLE + d] = 1;
      s[S.FOUNDER + d] = d;
      s[S.MATCH + d] = S.UNMATCHED;
    }
    return s;
  }

  // --- what the product is told ------------------------------------------------------------

  hearer(s: State, d: number): Hearer {
    return {
      nodeId: LETTERS[d]!,
      role: s[S.ROLE + d] === 1 ? 'primary' : 'replica',
      epoch: s[S.EPOCH_OF + d]!,
      epochSeen: s[S.SEEN + d]!,
      primary: LETTERS[s[S.PRIMARY + d]!] ?? '',
      promisedTo: LETTERS[s[S.PROMISED + d]!] ?? '',
    };
  }

  rowsOf(log: number, founder: number): readonly MembersRow[] {
    const key = log * 8 + founder;
    const known = this.#rows.get(key);
    if (known) return known;
    const next = membersOf(this.config.founders[founder]!);
    const rows = [{ epoch: 1, sequence: 0, next, old: undefined }, ...this.logs.view(log).rows];
    this.#rows.set(key, rows);
    return rows;
  }

  standing(s: State, d: number, log: number): Standing {
    const founder = s[S.FOUNDER + d]!;
    const { position, history } = this.logs.view(log);
    return {
      ...this.rules.memberOf(d, s[S.WIPED + d]!),
      epochSeen: s[S.SEEN + d]!,
      position: log === 0 ? NO_SEQUENCE : position,
      history,
      rows: founder === NOBODY ? [] : this.rowsOf(log, founder),
      founder: this.#founderId(founder),
      isFounded: this.#mayBeFounded(s, d),
    };
  }

  #founderId(founder: number): string {
    return founder === NOBODY ? UNKNOWN_DIRECTORY : this.rules.memberOf(founder, 0).directoryId;
  }

  /**
   * It may have acknowledged: after a restart nobody knows who has followed before. As the product
   * says it (Quorum.standingOf): of who leads.
   */
  #mayBeFounded(s: State, d: number): boolean {
    if (s[S.FOUNDER + d] !== d || s[S.ROLE + d] !== 1) return false;
    return (s[S.MATCH + d]! & S.RESTARTED) !== 0 || this.#isFounded(s, d);
  }

  #isFounded(s: State, c: number): boolean {
    if (s[S.EPOCH_OF + c]! > 1) return true;
    const match = s[S.MATCH + c]!;
    const key = ((match & 0xffff) * 16 + this.#wiped(s)) * 8 + s[S.FOUNDER + c]!;
    const known = this.#founded.get(key * 4 + c);
    if (known !== undefined) return known;
    const followers = [c, ...this.#nodes().filter((d) => d !== c && matchOf(match, d) < 15)];
    const set = membersOf(this.config.founders[s[S.FOUNDER + c]!]!);
    const ids = followers.map((d) => this.rules.memberOf(d, s[S.WIPED + d]!));
    const made = this.rules.isFounded(set, ids);
    this.#founded.set(key * 4 + c, made);
    return made;
  }

  readonly #all: readonly number[];

  #nodes(): readonly number[] {
    return this.#all;
  }

  #progress(s: State, c: number): Progress {
    const match = s[S.MATCH + c]!;
    const known = this.#nodes().filter((d) => d !== c && matchOf(match, d) < 15);
    return {
      own: this.rules.memberOf(c, s[S.WIPED + c]!),
      ownFlushed: this.logs.length[s[S.LOG + c]!]!,
      others: known.map((d) => ({
        member: this.rules.memberOf(d, s[S.WIPED + d]!),
        flushed: matchOf(match, d),
      })),
      first: this.logs.firstOf(s[S.LOG + c]!, s[S.EPOCH_OF + c]!),
      isFounded: this.#isFounded(s, c),
    };
  }

  // --- leading -----------------------------------------------------------------------------

  newest(s: State, c: number): MembersRow {
    return this.rowsOf(s[S.LOG + c]!, s[S.FOUNDER + c]!).at(-1)!;
  }

  /** The newest set of its log, as a number. */
  setOf(s: State, c: number): SetCode {
    const change = this.logs.changeIn(s[S.LOG + c]!);
    if (change === 0) return this.config.founders[s[S.FOUNDER + c]!]!;
    return this.logs.setAt(change) & 511;
  }

  /** What is acknowledged by now, at the level that promotions keep; checked at once. */
  acknowledge(s: State, c: number): void {
    const e = s[S.EPOCH_OF + c]!;
    const upTo = this.#upTo(s, c, e);
    if (upTo === 0) return;
    const log = this.logs.at(s[S.LOG + c]!, upTo);
    const have = s[S.ACKED_BY + e] === c ? this.logs.length[s[S.ACKED + e]!]! : 0;
    if (have >= upTo) return;
    const by = s[S.ACKED_BY + e]!;
    if (by !== NOBODY && by !== c) {
      this.bad = `${LETTERS[by]} and ${LETTERS[c]} acknowledge in epoch ${e}`;
      return;
    }
    for (let x = 1; x < 8; x++) {
      const other = s[S.ACKED + x]!;
      if (this.logs.isPrefix(other, log) || this.logs.isPrefix(log, other)) continue;
      this.bad = `${this.logs.show(other)} and ${this.logs.show(log)} are both acknowledged`;
      return;
    }
    for (let d = 0; d < NODES; d++) {
      if (s[S.ROLE + d] !== 1 || s[S.EPOCH_OF + d]! <= e) continue;
      if (!this.logs.isPrefix(log, s[S.LOG + d]!)) this.bad = this.#lost(s, log, e, d);
    }
    s[S.ACKED + e] = log;
    s[S.ACKED_BY + e] = c;
  }

  #lost(s: State, log: number, epoch: number, leader: number): string {
    const what = `acknowledged in epoch ${epoch}: ${this.logs.show(log)}`;
    const who = `${LETTERS[leader]} leads epoch ${s[S.EPOCH_OF + leader]}`;
    return `${what}; ${who} with ${this.logs.show(s[S.LOG + leader]!)}`;
  }

  #upTo(s: State, c: number, epoch: number): number {
    const log = s[S.LOG + c]!;
    const key = this.#key(s, c, epoch);
    const known = this.#acked.get(key);
    if (known !== undefined) return known;
    const sets = countingSets(this.rowsOf(log, s[S.FOUNDER + c]!));
    const level = Math.max(...sets.map((set) => set.keep));
    const upTo = this.rules.acknowledgedUpTo(sets, level, this.#progress(s, c));
    this.#acked.set(key, upTo);
    return upTo;
  }

  /** All that the progress of a leader depends on. */
  #key(s: State, c: number, epoch: number): number {
    const about = (this.#wiped(s) * 2 + Number(this.#isFounded(s, c))) * 8 + s[S.FOUNDER + c]!;
    const where = (s[S.LOG + c]! * 8 + epoch) * 4 + c;
    return (where * 2 ** 16 + (s[S.MATCH + c]! & 0xffff)) * 256 + about;
  }

  #wiped(s: State): number {
    let bits = 0;
    for (let d = 0; d < NODES; d++) bits |= s[S.WIPED + d]! << d;
    return bits;
  }

  maySettle(s: State, c: number): boolean {
    const row = this.newest(s, c);
    if (!row.old) return false;
    const key = this.#key(s, c, s[S.EPOCH_OF + c]!);
    const known = s[S.FLOOR] === 0 ? this.#settles.get(key) : undefined;
    if (known !== undefined) return known;
    const floor = s[S.FLOOR]! === 0 ? undefined : this.logs.view(s[S.FLOOR]!).position;
    const made = this.rules.maySettle(row, this.#progress(s, c), floor);
    if (!floor) this.#settles.set(key, made);
    return made;
  }

  mayChange(s: State, c: number): boolean {
    return this.rules.mayChange(this.rowsOf(s[S.LOG + c]!, s[S.FOUNDER + c]!));
  }

  mayWriteFloor(s: State, c: number): boolean {
    if (s[S.ROW_EPOCH] !== s[S.EPOCH_OF + c] || s[S.ROW_LEADER] !== c) return false;
    const change = this.logs.changeIn(s[S.LOG + c]!);
    if (change === 0 || change === s[S.FLOOR] || this.logs.kind(change) !== PENDING) return false;
    return this.rules.mayWriteFloor(this.newest(s, c), this.#progress(s, c));
  }

  /** @param kind EPOCH, DATA, PENDING or SETTLED */
  append(s: State, c: number, kind: number, set = 0): void {
    s[S.LOG + c] = this.logs.push(s[S.LOG + c]!, s[S.EPOCH_OF + c]!, c, kind, set);
    this.acknowledge(s, c);
  }

  // --- epochs ------------------------------------------------------------------------------

  sees(s: State, d: number, epoch: number): void {
    s[S.SEEN + d] = epoch;
    s[S.PROMISED + d] = NOBODY;
    this.#stops(s, d);
  }

  #stops(s: State, d: number): void {
    s[S.ROLE + d] = 0;
    s[S.MATCH + d] = s[S.MATCH + d]! & S.RESTARTED;
    s[S.ANSWERS + d] = 0;
  }

  /** An answer has named an epoch. */
  hears(s: State, d: number, epoch: number): void {
    const heard = this.rules.judgeHeard(this.hearer(s, d), epoch);
    if (heard === 'seen' || heard === 'fenced') this.sees(s, d, Math.max(epoch, s[S.SEEN + d]!));
    if (s[S.ROLE + d] === 1 && epoch > s[S.EPOCH_OF + d]!) {
      this.bad = `${LETTERS[d]} was told of epoch ${epoch}, leads on in ${s[S.EPOCH_OF + d]}`;
    }
  }

  /** @returns whether it has promised */
  promises(s: State, m: number, c: number, epoch: number): boolean {
    const verdict = this.rules.judgePromise(this.hearer(s, m), epoch, LETTERS[c]!);
    if (verdict === 'grant') {
      this.sees(s, m, epoch);
      s[S.PROMISED + m] = c;
    }
    return verdict !== 'refuse';
  }

  isCandidate(s: State, c: number): boolean {
    return s[S.ANSWERS + c]! > 0;
  }

  /** Its own promise is the first. */
  candidacy(s: State, c: number, epoch: number): void {
    if (!this.promises(s, c, c, epoch)) return;
    if (this.config.late) s[S.ASKED] = s[S.ASKED]! | (1 << (4 * epoch + c));
    const answers = [...NO_ANSWERS];
    answers[c] = 1;
    s[S.ANSWERS + c] = this.answers.id(answers);
  }

  /** A promise has come. @param log at whose end it was given */
  promised(s: State, c: number, m: number, log: number): void {
    const answers = [...this.answers.of(s[S.ANSWERS + c]!)];
    answers[m] = 1 + (this.config.isExact || this.#isAhead(log, s[S.LOG + c]!) ? log : 0);
    s[S.ANSWERS + c] = this.answers.id(answers);
  }

  #isAhead(log: number, own: number): boolean {
    return comparePositions(this.logs.view(log).position, this.logs.view(own).position) > 0;
  }

  /** It is a member by its own log, or by one that it would take over first. */
  mayTry(s: State, c: number): boolean {
    if (this.outlook(s, c).isMember) return true;
    const own = this.setOf(s, c) | this.#oldSetOf(s, c);
    return this.#nodes().some((m) => {
      if (!inSet(own, m) || s[S.FOUNDER + m] === NOBODY) return false;
      return inSet(this.setOf(s, m), c) && this.#isAhead(s[S.LOG + m]!, s[S.LOG + c]!);
    });
  }

  #oldSetOf(s: State, c: number): SetCode {
    const change = this.logs.changeIn(s[S.LOG + c]!);
    return this.logs.kind(change) === PENDING && change > 0 ? this.logs.setAt(change) >> 9 : 0;
  }

  outlook(s: State, c: number): Outlook {
    const aside = this.#aside(s, c);
    const by = this.#outlooks.get(aside) ?? new Map<number, Outlook>();
    this.#outlooks.set(aside, by);
    const key = (s[S.LOG + c]! * 2 ** 24 + s[S.ANSWERS + c]!) * 4 + c;
    const known = by.get(key);
    if (known) return known;
    const made = this.#judge(s, c);
    by.set(key, made);
    return made;
  }

  /** What else the verdict depends on. */
  #aside(s: State, c: number): number {
    let about = s[S.FLOOR]!;
    about = about * 16 + this.#wiped(s);
    if (this.config.founders.length === 1) return about;
    for (let d = 0; d < NODES; d++) {
      about = about * 16 + s[S.FOUNDER + d]! * 2 + Number(this.#mayBeFounded(s, d));
    }
    return about * 4 + c;
  }

  #judge(s: State, c: number): Outlook {
    const answered = this.answers.of(s[S.ANSWERS + c]!);
    const others = this.#nodes().filter((m) => m !== c && (answered[m] ?? 0) > 0);
    const answers = others.map((m) => this.standing(s, m, answered[m]! - 1));
    const floor = s[S.FLOOR]! === 0 ? undefined : this.logs.view(s[S.FLOOR]!).position;
    const own = this.standing(s, c, s[S.LOG + c]!);
    const question = { own, answers, isOwnCounted: true, known: [], floor };
    const verdict = this.rules.judgePromotion(question);
    const granted = answers.filter((a) => !verdict.strangers.includes(a));
    const isEnough = this.rules.promisesSuffice(question, granted).isEnough;
    return {
      // Whoever listens under a name is asked; a directory says itself who it is.
      asks: verdict.asks.map((m) => LETTERS.indexOf(m.nodeId)).filter((m) => !answered[m]),
      fetch: verdict.fetch ? LETTERS.indexOf(verdict.fetch.nodeId) : -1,
      mayLead: verdict.isQualified && isEnough,
      isMember: verdict.isMember,
    };
  }

  /** @returns false where what it is given is not what the answer has named */
  fetches(s: State, c: number, m: number): boolean {
    const answer = this.answers.of(s[S.ANSWERS + c]!)[m]! - 1;
    const theirs = s[S.LOG + m]!;
    const end = this.logs.length[answer]!;
    if (this.rules.isEndChecked && !this.logs.isPrefix(answer, theirs)) return false;
    if (this.logs.length[theirs]! < end) return false;
    const got = this.logs.at(theirs, end);
    // The entry at its own end must be the same there.
    if (!this.logs.isPrefix(s[S.LOG + c]!, got)) return false;
    s[S.LOG + c] = got;
    const answers = this.answers.of(s[S.ANSWERS + c]!).map((a) => {
      return a > 1 && !this.config.isExact && !this.#isAhead(a - 1, got) ? 1 : a;
    });
    s[S.ANSWERS + c] = this.answers.id(answers);
    return true;
  }

  leads(s: State, c: number): void {
    const epoch = s[S.SEEN + c]!;
    const log = s[S.LOG + c]!;
    s[S.ROLE + c] = 1;
    s[S.EPOCH_OF + c] = epoch;
    s[S.PRIMARY + c] = c;
    s[S.MATCH + c] = S.UNMATCHED;
    s[S.ANSWERS + c] = 0;
    for (let x = 1; x < epoch; x++) {
      const acked = s[S.ACKED + x]!;
      if (!this.logs.isPrefix(acked, log)) this.bad = this.#lost(s, acked, x, c);
    }
  }

  // --- following ---------------------------------------------------------------------------

  /** What was shipped in an epoch comes to a node that still follows in it. */
  comesLate(s: State, r: number, epoch: number): boolean {
    const shipped = s[S.SHIPPED + epoch]!;
    const own = s[S.LOG + r]!;
    if (s[S.EPOCH_OF + r] !== epoch || s[S.SEEN + r] !== epoch || s[S.ROLE + r] === 1) return false;
    if (own === shipped || !this.logs.isPrefix(own, shipped)) return false;
    s[S.LOG + r] = this.logs.at(shipped, this.logs.length[own]! + 1);
    return true;
  }

  /**
   * A leader introduces the space, and ships what comes next.
   * @param isHeard false: the ack is lost
   * @returns whether anything happened
   */
  ships(s: State, c: number, r: number, isHeard = true): boolean {
    const epoch = s[S.EPOCH_OF + c]!;
    const rows = this.rowsOf(s[S.LOG + c]!, s[S.FOUNDER + c]!);
    const isAlone = this.rules.leadsAlone(rows, this.rules.memberOf(r, s[S.WIPED + r]!));
    const own = this.hearer(s, r);
    const verdict = this.rules.judgeIntroduction(own, epoch, LETTERS[c]!, isAlone);
    if (verdict === 'fenced') {
      this.hears(s, c, s[S.SEEN + r]!);
      return true;
    }
    const [ours, theirs] = [s[S.FOUNDER + c]!, s[S.FOUNDER + r]!];
    if (theirs !== NOBODY && theirs !== ours) {
      if (!this.#founders(s, c, r)) return false;
      if (s[S.ROLE + c] !== 1) return true;
    } else if (verdict !== 'follow') return false;
    this.#follows(s, r, c, epoch);
    return this.#continues(s, c, r, isHeard);
  }

  /** Two founders have met. @returns whether one of them has given way */
  #founders(s: State, c: number, r: number): boolean {
    const [leader, other] = [c, r].map((d) => this.standing(s, d, s[S.LOG + d]!));
    // Who follows a founder asks it what it has by now.
    const leftBy = this.#founderId(s[S.FOUNDER + s[S.FOUNDER + r]!]!);
    if (this.rules.judgeFounders(other!, leader!, leftBy) === 'give-way') {
      s[S.LOG + r] = 0;
      return true;
    }
    if (this.rules.judgeFounders(leader!, other!) !== 'give-way') return false;
    this.#stops(s, c);
    s[S.LOG + c] = 0;
    s[S.FOUNDER + c] = s[S.FOUNDER + r]!;
    s[S.PRIMARY + c] = s[S.PRIMARY + r]!;
    s[S.MATCH + c] = 0;
    return true;
  }

  #follows(s: State, r: number, c: number, epoch: number): void {
    if (s[S.EPOCH_OF + r] === epoch && s[S.PRIMARY + r] === c && s[S.FOUNDER + r] !== NOBODY)
      return;
    this.sees(s, r, epoch);
    s[S.PROMISED + r] = c;
    s[S.EPOCH_OF + r] = epoch;
    s[S.PRIMARY + r] = c;
    s[S.FOUNDER + r] = s[S.FOUNDER + c]!;
    s[S.MATCH + r] = 0;
  }

  #continues(s: State, c: number, r: number, isHeard: boolean): boolean {
    const [log, theirs] = [s[S.LOG + c]!, s[S.LOG + r]!];
    const verdict = this.#verdict(log, theirs, s[S.EPOCH_OF + c]!);
    if (verdict === 'rewind') {
      const common = this.#divergence(theirs, log);
      s[S.LOG + r] = this.logs.at(theirs, Math.max(0, common));
      if (common >= 0) return true;
    }
    if (verdict !== 'continue') {
      const both = `${this.logs.show(log)} and ${this.logs.show(theirs)}`;
      this.bad = `${LETTERS[c]} says ${verdict} to ${LETTERS[r]}: ${both}`;
      return true;
    }
    const length = Math.min(this.logs.length[log]!, this.logs.length[theirs]! + 1);
    s[S.LOG + r] = this.logs.at(log, length);
    if (!this.logs.isPrefix(theirs, log)) {
      this.bad = `${LETTERS[r]} goes on behind ${this.logs.show(theirs)} as ${this.logs.show(log)}`;
    }
    if (this.config.late) s[S.SHIPPED + s[S.EPOCH_OF + c]!] = log;
    if (!isHeard) return true;
    s[S.MATCH + c] = withMatch(s[S.MATCH + c]!, r, length);
    this.acknowledge(s, c);
    return true;
  }

  #verdict(log: number, theirs: number, epoch: number): string {
    const key = (log * 2 ** 24 + theirs) * 8 + epoch;
    const known = this.#verdicts.get(key);
    if (known) return known;
    const position = this.logs.view(theirs).position;
    const same = this.logs.view(this.logs.at(log, position.sequence)).position;
    const own = { epoch, position: this.logs.view(log).position, isSource: false };
    const replica = { answer: 'follows' as const, epochSeen: epoch, position };
    const verdict = this.rules.verdictOf(own, replica, same);
    this.#verdicts.set(key, verdict);
    return verdict;
  }

  /** -1: nobody can say. */
  #divergence(ours: number, theirs: number): number {
    const key = ours * 2 ** 24 + theirs;
    const known = this.#common.get(key);
    if (known !== undefined) return known;
    const [a, b] = [ours, theirs].map((log) => ({
      rows: this.logs.view(log).history,
      last: this.logs.length[log]!,
    }));
    const common = this.rules.divergenceOf(a!, b!) ?? -1;
    this.#common.set(key, common);
    return common;
  }

  /** A restarted leader leads on, and knows nothing of its replicas. */
  restarts(s: State, c: number): void {
    s[S.ANSWERS + c] = 0;
    if (s[S.ROLE + c] === 1) s[S.MATCH + c] = S.UNMATCHED | S.RESTARTED;
  }

  /** The disk of a node is wiped: it comes back with a new directory under its name. */
  wipes(s: State, d: number): void {
    s[S.WIPES] = s[S.WIPES]! + 1;
    for (const at of [S.LOG, S.SEEN, S.EPOCH_OF, S.ROLE, S.MATCH, S.ANSWERS]) s[at + d] = 0;
    for (const at of [S.PROMISED, S.PRIMARY, S.FOUNDER]) s[at + d] = NOBODY;
    s[S.WIPED + d] = 1;
    for (let c = 0; c < NODES; c++) {
      if (s[S.ROLE + c] === 1) s[S.MATCH + c] = withMatch(s[S.MATCH + c]!, d, 15);
      const answers = [...this.answers.of(s[S.ANSWERS + c]!)];
      if (!answers[d]) continue;
      answers[d] = 0;
      s[S.ANSWERS + c] = this.answers.id(answers);
    }
  }
}
