/**
 * A leader introduces a space under a name that moves cursors, ends lines and turns directions:
 * the space is taken as it is, and whatever a node says of it, to whomever, is clean.
 */
import path from 'node:path';
import { pino } from 'pino';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Node, NodeOptions } from '#src/main/index.js';
import { openBrowser, openPage } from '../support/browser.js';
import { at, EachTest, openSmall, until } from '../support/cluster.js';
import { startCommand } from '../support/command-line.js';
import { WireClient } from '../support/wire-client.js';

const ANY = { host: '127.0.0.1', port: 0 };
/** ESC and OSC, BEL, line ends of every kind, C1, DEL, and a right-to-left override. */
const NASTY =
  't\u001b]0;owned\u0007\u001b[2J\n  to do: trust me\r\u0085\u2028\u007f\u009b1m\u202etxt';
const SHOWN =
  't\\u{1b}]0;owned\\u{7}\\u{1b}[2J\\u{a}  to do: trust me\\u{d}\\u{85}\\u{2028}\\u{7f}' +
  '\\u{9b}1m\\u{202e}txt';
const LEADER = `leader\u001b[31m\n\u202e`;
const LEADER_SHOWN = 'leader\\u{1b}[31m\\u{a}\\u{202e}';
const HIDDEN = /[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u;

const each = new EachTest();
let browser: Browser;
beforeAll(async () => {
  browser = await openBrowser();
});
afterAll(async () => {
  await browser?.close();
});

/** Lines of ours may end; nothing else is hidden in them. */
function clean(text: string): string {
  expect(text.replaceAll('\n', '')).not.toMatch(HIDDEN);
  return text;
}

/** JSON that is clean as it is written, and says the very name as it is read. */
function cleanJson(text: string): string {
  expect(JSON.stringify(JSON.parse(clean(text)))).toContain(JSON.stringify(NASTY));
  return text;
}

async function cli(...args: string[]): Promise<string> {
  const { stdout, stderr } = await startCommand(each.folder, args).ended;
  return `${stdout}${stderr}`;
}

const lines: string[] = [];
const logger = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) });

const dirOf = (nodeId: string): string => path.join(each.folder, nodeId);

async function open(nodeId: string, more: Partial<NodeOptions> = {}): Promise<Node> {
  const node = await openSmall(dirOf(nodeId), nodeId, { listen: ANY, http: ANY, logger, ...more });
  each.finally(() => node.close());
  return node;
}

/** A replica of a leader that nobody would name so, and then of nobody. */
async function introduced(): Promise<{ b: Node; leader: WireClient }> {
  const b = await open('b');
  const leader = new WireClient(b.address!.port);
  await leader.hello('b', { nodeId: LEADER });
  await leader.follow(NASTY);
  await until('it is here', () => b.spaces.some((space) => space.name === NASTY));
  return { b, leader };
}

async function thrown(work: () => unknown): Promise<string> {
  try {
    await work();
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('nothing was thrown');
}

async function get(node: Node, where: string): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${node.httpAddress!.port}${where}`);
  return await response.text();
}

describe('a name that a terminal would act on', () => {
  test('is refused where a host or an operator gives it, on one line', async () => {
    const a = await each.start('a');
    const refusals = [
      await thrown(() => a.openSpace(NASTY)),
      await thrown(() => openSmall(dirOf('x'), NASTY)),
      await thrown(() => openSmall(dirOf('x'), 'x', { clusterId: NASTY })),
      await thrown(() => openSmall(dirOf('x'), 'x', { replicas: [at(NASTY, 7402)] })),
      await thrown(() => a.addReplica(at(NASTY, 7402))),
      await thrown(() => a.backup(path.join(each.folder, 'copy'), { nodeId: NASTY })),
    ];
    for (const told of refusals) {
      expect(clean(told).split('\n')).toHaveLength(4);
      expect(told).toMatch(/^Configuration: .*turn the direction/);
    }
    expect(a.spaces).toEqual([]);
  });

  test('is taken from a leader, and shown escaped by every output', async () => {
    const { b, leader } = await introduced();
    // The host reaches it under its very name.
    const space = await b.openSpace(NASTY, { lead: false });
    expect(space.name).toBe(NASTY);
    const url = `http://127.0.0.1:${b.httpAddress!.port}`;

    // Errors, our own and those that are told within another.
    const error = await thrown(() => space.append(1, Buffer.from('x')));
    expect(clean(error).split('\n')).toHaveLength(4);
    expect(error).toContain(LEADER_SHOWN);

    // HTTP, metrics, the page.
    cleanJson(await get(b, '/replication/status'));
    for (const where of ['/ready', '/cluster/health', '/replication/history']) {
      JSON.parse(clean(await get(b, where)));
    }
    expect(clean(await get(b, '/metrics'))).toContain(LEADER_SHOWN.replaceAll('\\', '\\\\'));
    const { page, complaints } = await openPage(browser, url);
    await page.getByText(SHOWN).first().waitFor();
    await page.getByText(LEADER_SHOWN).first().waitFor();
    clean((await page.innerText('body')).replaceAll('\t', ' '));
    clean(await page.title());
    expect(complaints).toEqual([]);
    await page.context().close();

    // The command line on a node that runs, with and without --json, well and badly.
    cleanJson(await cli('status', '--url', url, '--json'));
    expect(clean(await cli('status', '--url', url))).toContain(SHOWN);
    expect(clean(await cli('status', '--url', url, '--space', `no ${NASTY}`))).toContain(SHOWN);
    const asked = [dirOf('b'), '--space', NASTY];
    cleanJson(await cli('promote', ...asked, '--dry-run', '--json'));
    expect(clean(await cli('promote', ...asked, '--dry-run'))).toContain(SHOWN);
    expect(clean(await cli('promote', dirOf('b'), '--space', `no ${NASTY}`))).toContain(SHOWN);
    expect(clean(await cli('add-replica', ...asked))).toContain('error: ');
    expect(clean(await cli(`--no\u001b[2J`))).toContain('\\u{1b}[2J');

    // It leads, gives the space to another, and is led by that one.
    leader.socket.destroy();
    await cli('promote', ...asked, '--force');
    await space.append(1, Buffer.from('kept'));
    cleanJson(await cli('locate', ...asked, '--json'));
    expect(clean(await cli('locate', ...asked))).toContain(SHOWN);
    const c = await open('c');
    await b.addReplica(at('c', c.address!.port));
    await until('c has it', () => space.status().replicas[0]?.ackedSequence >= 2);
    expect(clean(await get(b, '/metrics'))).toContain(SHOWN.replaceAll('\\', '\\\\'));
    await c.close();
    await space.append(1, Buffer.from('lost'));
    await b.close();
    const again = await open('c');
    await again.promote(NASTY, { force: true });
    const back = await open('b', { listen: b.address! });
    await until('it is taken back', () => lines.some((line) => line.includes('"event":"rewound"')));
    cleanJson(await cli('quarantine', 'ls', dirOf('b'), '--json'));
    expect(clean(await cli('quarantine', 'ls', dirOf('b')))).toContain(SHOWN);

    // The command line on a directory, closed or not.
    cleanJson(await cli('inspect', dirOf('b'), '--json'));
    expect(clean(await cli('inspect', dirOf('b')))).toContain(SHOWN);
    clean(await cli('verify', dirOf('b')));
    await back.close();
    const entry = ['--space', NASTY, '--sequence', '1'];
    expect(clean(await cli('skip', dirOf('b'), ...entry))).toContain(SHOWN);
    clean(await cli('accept-loss', dirOf('b'), '--space', NASTY, '--from', '9'));

    // Every line of a log that there was.
    expect(lines.some((line) => JSON.parse(line).msg.includes(SHOWN))).toBe(true);
    expect(lines.some((line) => JSON.parse(line).msg.includes(LEADER_SHOWN))).toBe(true);
    for (const line of lines) {
      clean(line);
      for (const field of Object.values(JSON.parse(line))) {
        if (typeof field === 'string') expect(field).not.toMatch(HIDDEN);
      }
    }
  });
});
