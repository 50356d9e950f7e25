/** What the search visits: small clusters, each with what may happen in it. */
import type { Config } from './cluster.js';
import { setCode } from './logs.js';

export interface Plan {
  readonly what: string;
  readonly config: Config;
  /** Nodes that are alike. */
  readonly alike: readonly (readonly number[])[];
  readonly isHealed: boolean;
  /** Random walks of so many steps, instead of every state. */
  readonly walk?: number;
}

export const AB = setCode(0b0011);
export const ABC = setCode(0b0111);

/** Two members of three nodes, three epochs, two changes to any set, one entry. */
export const BASE: Config = {
  nodes: 3,
  founders: [AB],
  epochs: 3,
  data: 1,
  changes: 2,
  etcd: false,
  wipes: 0,
  keeps: false,
  crashes: false,
  splits: false,
  late: false,
  isExact: false,
};

function plan(what: string, config: Partial<Config>, more: Partial<Plan> = {}): Plan {
  return { what, config: { ...BASE, ...config }, alike: [], isHealed: true, ...more };
}
const BC = { alike: [[1, 2]] };

/** The first of them are exhausted within seconds; the last ones take as long as they are given. */
export const PLANS: readonly Plan[] = [
  plan('three members, no change', { founders: [ABC], changes: 0, data: 2 }, BC),
  plan('messages late and twice', { founders: [ABC], changes: 0, late: true }, BC),
  plan('messages late and twice, a change', { changes: 1, epochs: 2, late: true }),
  plan('two founders', { founders: [ABC, ABC], changes: 0, data: 2 }),
  plan('a restart of who leads', { founders: [ABC], changes: 0, crashes: true, splits: true }, BC),
  plan('a disk that is wiped', { founders: [ABC], changes: 1, data: 0, epochs: 2, wipes: 1 }),
  plan(
    'the level that is kept changes',
    { founders: [ABC], changes: 1, epochs: 2, keeps: true },
    BC,
  ),
  plan('two members of three nodes, one change', { changes: 1 }),
  plan('three members, one change', { founders: [ABC], changes: 1 }, BC),
  plan('with etcd, one change', { changes: 1, etcd: true }),
  plan('two entries, one change', { changes: 1, data: 2 }),
  plan('two members of three nodes, two changes', {}),
  plan('three members, two changes', { founders: [ABC] }, BC),
  plan('with etcd, two changes', { etcd: true }),
  plan('three members, two changes, two entries', { founders: [ABC], data: 2 }, BC),
  plan('three members, two changes, messages late and twice', { founders: [ABC], late: true }, BC),
  plan('two members of three nodes, two changes, messages late and twice', { late: true }),
  plan(
    'three members, two changes, two entries, messages late and twice',
    { founders: [ABC], data: 2, late: true },
    BC,
  ),
  plan('four nodes, to a depth', { nodes: 4, founders: [ABC], data: 2, late: true }, BC),
  plan(
    'four nodes, at random',
    { nodes: 4, founders: [ABC], epochs: 5, data: 3, changes: 3, crashes: true, splits: true },
    { walk: 60 },
  ),
  plan(
    'four nodes, messages late and twice, at random',
    { nodes: 4, founders: [ABC], epochs: 4, data: 2, changes: 2, late: true, keeps: true },
    { walk: 60 },
  ),
];
