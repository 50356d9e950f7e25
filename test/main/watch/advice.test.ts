/** What is wrong, one problem a cause, and what to do about each: words that can be typed. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { anchorOf, handbookPage } from '#src/main/watch/handbook.js';
import { adviceOf } from '#src/main/watch/health/advice.js';
import { KINDS, type ProblemKind } from '#src/main/watch/health/kinds.js';
import { SpaceProblems } from '#src/main/watch/health/problems.js';
import type { SpaceStatus } from '#src/main/watch/status.js';

const ROOT = path.join(import.meta.dirname, '../../..');
const KNOWN = Object.keys(KINDS) as ProblemKind[];

describe('what to do', () => {
  test('the commands are those of engram-wal, with options that it has', () => {
    const given = spawnSync('node', ['dist/main/cli.js', 'completion', 'bash'], { cwd: ROOT });
    const verbs = new Map<string, string[]>();
    for (const [, verb, words] of `${given.stdout}`.matchAll(/"([a-z -]+)"\) words="([^"]*)"/g)) {
      verbs.set(verb!, words!.split(' '));
    }
    expect(verbs.size).toBeGreaterThan(20);
    const steps = KNOWN.flatMap((kind) => adviceOf(kind, 'node-b', 'tenant-a').steps);
    const own = steps.map(({ command }) => command).filter((one) => one.startsWith('engram-wal '));
    expect(own.length).toBeGreaterThan(10);
    for (const command of own) {
      const [, one = '', two = ''] = command.split(' ');
      const options = verbs.get(`${one} ${two}`) ?? verbs.get(one);
      expect(options, command).toBeDefined();
      for (const [option] of command.matchAll(/--[a-z-]+/g)) expect(options).toContain(option);
    }
  });

  test('is said for every kind, and its chapter is in the handbook', () => {
    const markdown = fs.readFileSync(path.join(ROOT, 'docs/OPERATIONS.md'), 'utf8');
    const page = handbookPage(markdown);
    for (const kind of KNOWN) {
      const { text, steps } = adviceOf(kind, 'node-b', 'tenant-a');
      expect(text, kind).toMatch(/^[A-Z].*[^.]$/);
      expect(`${text} ${JSON.stringify(steps)}`, kind).not.toMatch(/SUBJECT|SPACE/);
      expect(page).toContain(`<h2 id="${KINDS[kind].chapter}">`);
    }
    expect(page).not.toMatch(/\*\*|\]\(|```/);
  });

  test('of names that a shell would take for more: quoted, or left to the reader', () => {
    const typed = (space: string): string =>
      adviceOf('leaderless', '', space).steps[0]!.command.replace(
        /^.*--space (.*) --dry-run$/s,
        '$1',
      );
    expect(typed('tenant-a')).toBe('tenant-a');
    expect(typed("it's; rm -rf $HOME")).toBe(`'it'\\''s; rm -rf $HOME'`);
    expect(typed('--force')).toBe('NAME');
    expect(typed('a\nb')).toBe('NAME');
    expect(typed('$&')).toBe("'$&'");
  });
});

test('a handbook is text: what looks like a page in it does nothing', () => {
  const page = handbookPage(
    '# A <b>\n\n- `<i>` **x `y`** & [z](#a)\n- *one: two*\n\n```sh\n\n# <u>\n```',
  );
  expect(page).toContain('<h1 id="a-b">A &lt;b&gt;</h1>');
  expect(page).toContain('<li><code>&lt;i&gt;</code> <strong>x <code>y</code></strong> &amp; ');
  expect(page).toContain('<a href="#a">z</a></li><li><em>one: two</em></li>');
  expect(page).toContain('<pre tabindex="0"><code>\n# &lt;u&gt;</code></pre>');
  expect(anchorOf('Keys, and `certificates`')).toBe('keys-and-certificates');
});

function spaceOf(name: string, status: string, more: Partial<SpaceStatus> = {}): SpaceStatus {
  const replica = { replicaId: 'node-b', status, state: 'waiting', slot: 'ok', lagMs: 9_000 };
  return {
    name,
    role: 'primary',
    primaryNodeId: 'node-a',
    leader: { nodeId: 'node-a', by: 'static', reason: '' },
    damage: [],
    members: { learners: [], keep: 0 },
    replicas: [{ ...replica, reason: 'ECONNREFUSED' }],
    ...more,
  } as unknown as SpaceStatus;
}

describe('500 spaces with one cause', () => {
  const names = Array.from({ length: 500 }, (_, i) => `space${(i * 7) % 500}`);

  test('are one problem: counted, the first few by name, the others found by it', () => {
    const problems = new SpaceProblems({ primaries: new Map(), losses: new Map(), own: [] });
    const told = names.map((name) => problems.add(spaceOf(name, 'failed')));
    const list = problems.list();
    expect(list).toHaveLength(1);
    expect(list[0]).toMatchObject({
      cause: 'replica-failed:node-b',
      spaces: 500,
      examples: ['space0', 'space1', 'space2', 'space3', 'space4'],
    });
    expect(list[0]!.advice.steps[0]).toEqual({
      on: 'node-b',
      command: 'systemctl restart engram-wal',
    });
    for (const { causes } of told) expect(causes).toEqual(['replica-failed:node-b']);
    // None of a sound one.
    const sound = problems.add(spaceOf('sound', 'healthy'));
    expect(sound).toEqual({ word: 'healthy', causes: [] });
  });

  test('of those that lag the worst stands first', () => {
    const problems = new SpaceProblems({ primaries: new Map(), losses: new Map(), own: [] });
    for (const name of names) {
      const space = spaceOf(name, 'degraded');
      const lagMs = name === 'space444' ? 60_000 : 9_000;
      problems.add({ ...space, replicas: [{ ...space.replicas[0]!, lagMs }] });
    }
    const [lagging] = problems.list();
    expect(lagging!.examples).toEqual(['space444', 'space0', 'space1', 'space2', 'space3']);
    expect(lagging!.text).toContain('60.0 s behind');
    const space = spaceOf('space444', 'degraded');
    problems.add({ ...space, replicas: [{ ...space.replicas[0]!, lagMs: 'unknown' }] });
    expect(problems.list()[0]!.text).toMatch(/^Replica node-b is behind, how far is not known \(/);
  });

  test('and another cause is another problem, of the same space too', () => {
    const problems = new SpaceProblems({ primaries: new Map(), losses: new Map(), own: [] });
    for (const name of names) problems.add(spaceOf(name, 'failed'));
    const damage = [{ from: 3, to: 4, accepted: false }];
    const { word, causes } = problems.add(spaceOf('rotten', 'failed', { damage }));
    expect(word).toBe('corrupt');
    expect(causes).toEqual(['damaged', 'replica-failed:node-b']);
    const spaces = problems.list().map(({ cause, spaces: n }) => [cause, n]);
    expect(spaces).toEqual([
      ['replica-failed:node-b', 501],
      ['damaged', 1],
    ]);
  });
});
