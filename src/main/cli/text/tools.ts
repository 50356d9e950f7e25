/** What `inspect` and `verify` print for people. */

import type { Findings } from '../../repair/log-survey.js';
import type { Verified } from '../../repair/verify.js';
import type { Inspected } from '../inspect.js';
import { tableText } from './table.js';

/** `toLocaleString` makes one anew at each call. */
const NUMBER = new Intl.NumberFormat('en');

function number(value: number): string {
  return NUMBER.format(value);
}

/** One line each, with the count and the first place (FAULTS row 81); never a byte of payload. */
export function findingLines(findings: Findings['list']): string[] {
  return findings.map(({ level, file, at, end, what, space, count }) => {
    const where = file === '' ? `LSN ${at}` : `${file} at ${at}`;
    const range = end > at ? `..${end}` : '';
    const times = count > 1 ? ` (${number(count)} times, first here)` : '';
    const whose = space === undefined ? '' : ` [${space}]`;
    return `${level === 'rot' ? 'ROT    ' : 'warning'} ${where}${range}: ${what}${times}${whose}`;
  });
}

export function verifiedText(dir: string, verified: Verified): string {
  const { kind, entries, bytes, spaces, segments, findings, rot, warnings } = verified;
  const log = kind === 'engram' ? "Engram's own log" : 'log';
  const size = `${number(entries)} entries, ${number(bytes)} bytes`;
  const what = `${size}, ${spaces} spaces, ${segments} segments`;
  const end =
    rot > 0
      ? `CORRUPT: ${number(rot)} damaged places. Keep the directory; restore from a replica.`
      : `sound${warnings > 0 ? `, ${number(warnings)} warnings` : ''}`;
  return [...findingLines(findings), `${dir}: ${log}, ${what}`, `${dir}: ${end}`].join('\n');
}

export function inspectedText({ segments, spaces, entries, findings }: Inspected): string {
  if (entries) {
    const head = ['sequence', 'epoch', 'type', 'time', 'bytes', 'payload'];
    const rows = entries.map((e) =>
      [e.sequence, e.epoch, e.type, e.time, number(e.bytes), e.preview].map(String),
    );
    return tableText(head, rows);
  }
  const files = segments.map((s) => [s.file, number(s.start), number(s.end), number(s.size)]);
  const names = spaces.map((s) => {
    const range = `${s.firstSequence}..${s.lastSequence}`;
    const epochs = s.epochs.join(', ');
    return [s.name, s.role ?? '', number(s.entries), range, epochs, number(s.bytes)];
  });
  return [
    tableText(['segment', 'first LSN', 'end', 'file bytes'], files),
    tableText(['space', 'role', 'entries', 'sequences', 'epochs', 'bytes'], names),
    ...findingLines(findings),
  ].join('\n');
}
