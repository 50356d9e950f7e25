/** What a node tells its host about its coordinator. */
import type { Leader } from './coordinator.js';

export interface CoordinatorEvents {
  /** etcd can be reached, or not. */
  readonly coordinator: { readonly connected: boolean; readonly reason: string };
  /** This node's lease is held, or may have run out: then it acknowledges nothing. */
  readonly lease: { readonly held: boolean; readonly reason: string };
  /** etcd says who leads a space; `leader` undefined: nobody, for now. */
  readonly leader: { readonly space: string; readonly leader: Leader | undefined };
  /** A space waits for a leader, and why this node is none; space '': all of them. */
  readonly 'leader-waiting': { readonly space: string; readonly reason: string };
}
