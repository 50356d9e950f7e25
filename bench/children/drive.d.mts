/** Types of drive.mjs. */

/** What it drives: a space of a node. */
export interface Driven {
  status(): { readonly lastSequence: number };
  tryAppend(type: number, payload: Uint8Array): number | undefined;
  flushed(sequence: number, ack: { replicas: number; timeoutMs: number }): Promise<void>;
}

export interface DriveJob {
  readonly payloadBytes: number;
  readonly maxBytes: number;
  readonly leadBytes: number;
  readonly burst: number;
}

export const WARM_UP: {
  readonly burstBytes: number;
  readonly leadBytes: number;
  readonly share: number;
  readonly ms: number;
  readonly fullMs: number;
  readonly fullShare: number;
};

export function entriesOf(job: Omit<DriveJob, 'burst'>): {
  readonly most: number;
  readonly lead: number;
  readonly warmUpBurst: number;
  readonly warmUpLead: number;
};

export function warmUp(
  space: Driven,
  payloads: readonly Uint8Array[],
  job: DriveJob,
  replicas: number,
): Promise<number>;

export function drive(
  space: Driven,
  payloads: readonly Uint8Array[],
  burst: number,
  lead: number,
  ms: number,
  most: number,
  replicas: number,
): Promise<number>;
