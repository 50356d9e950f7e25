export const SPACES: readonly string[];
export const OPTIONS: {
  readonly clusterId: string;
  readonly segmentBytes: number;
  readonly maxEntryBytes: number;
  readonly backoffStepsMs: readonly number[];
};
export const PER_BATCH: number;
export const MEMBERS_ENTRY: number;
export function isReplicated(space: string, count: number): boolean;
export function payloadOf(life: number, space: string, count: number): Buffer;
export function offerOf(
  payload: Uint8Array,
): { life: number; space: string; count: number } | undefined;
