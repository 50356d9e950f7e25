/** A directory stays its owner's, whoever runs a tool on it (FAULTS row 90). Needs to be root. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openNode } from '#src/main/index.js';
import { makeFolder, removeFolder } from '../../support/cluster.js';
import { NEEDS, requireHere } from '../../support/needs.js';

const ROOT = path.join(import.meta.dirname, '../../..');
const CLI = path.join(ROOT, 'dist/main/cli.js');
const OWNER = 64_321;
const OTHER = 64_322;

let folder: string;
let dir: string;

beforeAll(() => requireHere(NEEDS.root));

beforeEach(async () => {
  folder = makeFolder();
  fs.chmodSync(folder, 0o755);
  dir = path.join(folder, 'a');
  const node = await openNode({ dataDir: dir, nodeId: 'a', clusterId: 'test' });
  const space = await node.openSpace('s');
  for (let n = 1; n <= 3; n++) await space.append(1, Buffer.from(`entry ${n}`));
  await node.close();
});

afterEach(() => removeFolder(folder));

function give(uid: number): void {
  for (const name of ['.', ...fs.readdirSync(dir)]) fs.chownSync(path.join(dir, name), uid, uid);
}

/** Who owns what is in the directory, and what others may do with it. */
function owners(): Record<string, string> {
  const rows = fs.readdirSync(dir).map((name) => {
    const { uid, gid, mode } = fs.statSync(path.join(dir, name));
    return [name, `${uid}:${gid} ${(mode & 0o777).toString(8)}`] as const;
  });
  return Object.fromEntries(rows);
}

/** Opens the directory and says what it ends at, as the user. */
const OPEN = `
  import { openNode } from '${ROOT}/dist/main/index.js';
  const node = await openNode({ dataDir: process.argv[1], nodeId: 'a', clusterId: 'test' });
  console.log(node.space('s').status().lastSequence ?? 'open');
  await node.close();`;

function openAs(uid: number): { code: number | null; err: string } {
  const args = ['--input-type=module', '-e', OPEN, dir];
  const { status, stderr } = spawnSync(process.execPath, args, { uid, gid: uid, encoding: 'utf8' });
  return { code: status, err: stderr };
}

describe('whose a data directory is', () => {
  test('FAULT-90 tools that root runs leave every file its owner and mode', () => {
    give(OWNER);
    // A full copy of what the service finds there, for it opens it again afterwards.
    const before = owners();
    const args = ['skip', dir, '--space', 's', '--sequence', '2'];
    const done = spawnSync(process.execPath, [CLI, ...args], { encoding: 'utf8' });
    expect(done).toMatchObject({ status: 0, stderr: '' });
    expect(owners()).toEqual(before);
    const loss = ['accept-loss', dir, '--space', 's', '--from', '2', '--to', '2'];
    const refused = spawnSync(process.execPath, [CLI, ...loss], { encoding: 'utf8' });
    expect(refused.stderr).toContain('no damaged range');
    expect(owners()).toEqual(before);
    expect(openAs(OWNER)).toEqual({ code: 0, err: '' });
  });

  test('FAULT-90 another user, root as well, opens nothing and changes nothing', () => {
    give(OWNER);
    const before = owners();
    const asRoot = openAs(0);
    expect(asRoot.code).toBe(1);
    expect(asRoot.err).toContain('WrongUser');
    expect(asRoot.err).toContain(`belongs to user ${OWNER}`);
    // However much the modes allow.
    fs.chmodSync(dir, 0o777);
    for (const name of fs.readdirSync(dir)) fs.chmodSync(path.join(dir, name), 0o666);
    const open = owners();
    expect(openAs(OTHER).err).toContain('WrongUser');
    const skip = ['skip', dir, '--space', 's', '--sequence', '2'];
    const how = { uid: OTHER, gid: OTHER, encoding: 'utf8' } as const;
    const tool = spawnSync(process.execPath, [CLI, ...skip], how);
    expect(tool.status).toBe(2);
    expect(tool.stderr).toContain('WrongUser');
    expect(owners()).toEqual(open);
    expect(Object.keys(before).sort()).toEqual(Object.keys(open).sort());
    // Its owner is not let in either, before nobody else can write there.
    expect(openAs(OWNER).err).toContain('DataRootUnavailable');
    fs.chmodSync(dir, 0o700);
    expect(openAs(OWNER)).toEqual({ code: 0, err: '' });
  });
});
