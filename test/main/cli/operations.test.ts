/** The runbook names what exists: metrics, commands, codes, events, options, states. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { OPTION_NAMES } from '#src/main/options/config.js';
import { EVENT_NAMES } from '#src/main/tell/event-lines.js';
import { KINDS } from '#src/main/watch/health/kinds.js';
import { ERROR_CODES } from '#src/shared/errors.js';
import { PAIR_STATES, STAGES } from '#src/shared/link/pair-watch.js';
import { makeFolder, openSmall, removeFolder } from '../../support/cluster.js';

const ROOT = path.join(import.meta.dirname, '../../..');
const TEXT = fs.readFileSync(path.join(ROOT, 'docs/OPERATIONS.md'), 'utf8');
const RULES = fs.readFileSync(path.join(ROOT, 'deploy/prometheus/alerts.yml'), 'utf8');
const ALERTS = [...RULES.matchAll(/alert: (\S+)/g)].map((m) => m[1]!);
/** What stands in backticks outside of blocks of code. */
const WORDS = [...TEXT.replace(/```[\s\S]*?```/g, '').matchAll(/`([^`]+)`/g)].map((m) => m[1]!);

function found(pattern: RegExp): string[] {
  return [...new Set([...TEXT.matchAll(pattern)].map((m) => m[1]!))];
}

test('its metrics are in a scrape', async () => {
  const dir = makeFolder();
  const replicas = [{ nodeId: 'b', host: '127.0.0.1', port: 1 }];
  const node = await openSmall(dir, 'a', { replicas, openConfirmMs: 0 });
  const { body } = await node.metrics();
  await node.close();
  removeFolder(dir);
  const named = found(/\b(engram_[a-z_]+)/g);
  expect(named.length).toBeGreaterThan(6);
  expect(named.filter((name) => !body.includes(`# TYPE ${name} `))).toEqual([]);
});

test('its commands are commands', () => {
  const cli = path.join(ROOT, 'dist/main/cli.js');
  const help = execFileSync(process.execPath, [cli, '--help'], { encoding: 'utf8' });
  const named = found(/(?:^|`| {2})engram-wal ([a-z-]+)/gm);
  expect(named.length).toBeGreaterThan(4);
  expect(named.filter((name) => !new RegExp(`^  ${name}\\b`, 'm').test(help))).toEqual([]);
});

test('each problem has a chapter', () => {
  const headings = [...TEXT.matchAll(/^##+ (.*)$/gm)].map(([, title]) =>
    title!
      .toLowerCase()
      .replace(/[^a-z ]/g, '')
      .replaceAll(' ', '-'),
  );
  const chapters = new Set(Object.values(KINDS).map(({ chapter }) => chapter));
  expect([...chapters].filter((chapter) => !headings.includes(chapter))).toEqual([]);
});

test('its codes, events, options and states exist', () => {
  const rules = fs.readFileSync(path.join(ROOT, 'deploy/prometheus/alerts.yml'), 'utf8');
  const known = new Set<string>([
    ...[...rules.matchAll(/alert: (\S+)/g)].map((m) => m[1]!),
    ...ERROR_CODES,
    ...EVENT_NAMES,
    ...ALERTS,
    ...OPTION_NAMES.all,
    ...PAIR_STATES,
    ...STAGES.map((stage) => `stalled: ${stage}`),
    // Words of the command line; systemd's.
    'NOW',
    'TARGET',
    // Of `status`; of deploy/backup.sh.
    'HEALTHY',
    'KEEP',
    'FOLDER',
    'DIR',
    'LimitNOFILE',
    'PrivateTmp',
    'WatchdogSec',
  ]);
  const codes = WORDS.filter((word) => /^[A-Z][A-Za-z]+$/.test(word));
  expect(codes.length).toBeGreaterThan(8);
  expect(codes.filter((code) => !known.has(code))).toEqual([]);
  const kebab = WORDS.filter((word) => /^[a-z]+(-[a-z]+)+$/.test(word));
  // Reasons and states of the log, the slot and apply, the package itself, a command.
  const others = ['disk-full', 'read-only', 'slow-disk', 'read-only-file-system', 'access-denied'];
  others.push('too-many-open-files', 'before-log', 'engram-wal', 'accept-loss');
  // The nodes of its examples.
  others.push('systemd-notify', 'systemd-not-told');
  // Of who is turned away.
  others.push('not-member', 'not-allowed');
  others.push('node-a', 'node-b', 'node-c', 'node-d');
  expect(kebab.filter((word) => !known.has(word) && !others.includes(word))).toEqual([]);
  const camel = WORDS.filter((word) => /^[a-z]+([A-Z][a-z]+)+$/.test(word));
  expect(camel.length).toBeGreaterThan(5);
  const mine = ['keyFile', 'tokenFile', 'tryAppend', 'openNode', 'removeReplica', 'ttlMs'];
  // Of the report of `promote`.
  mine.push('passedOver', 'logLevel');
  // Of Kubernetes.
  mine.push('fsGroup');
  // Of who is turned away; a method.
  mine.push('addressClass', 'addReplica');
  // Of the tls of a coordinator, and its user.
  mine.push('caFile', 'certFile', 'passwordFile');
  expect(camel.filter((word) => !known.has(word) && !mine.includes(word))).toEqual([]);
});
