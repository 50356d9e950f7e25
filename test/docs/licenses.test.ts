/** The list of what comes along is that of package-lock.json, and says so where it is not. */
import { describe, expect, test } from 'vitest';
import { documentOf } from './blocks.js';
import { differences, type Lock, lockOf, packagesOf } from './licenses.js';

const LIST = documentOf('docs/DEPENDENCIES.md');

/** The lock, with one package more or other than it is. */
function lockWith(place: string, change: object): Lock {
  const { packages } = lockOf();
  const { version = '1.0.0', ...known } = packages[place] ?? {};
  return { packages: { ...packages, [place]: { version, ...known, ...change } } };
}

describe('the list of dependencies', () => {
  test('is whole: name, version, licence, and of ours the last release and a reason', () => {
    expect(differences(LIST, lockOf())).toEqual([]);
    expect(packagesOf(lockOf()).filter((one) => one.isDirect).length).toBeGreaterThan(5);
  });

  test.each<[string, Lock, string]>([
    ['a new one', lockWith('node_modules/left-pad', { license: 'MIT' }), 'left-pad 1.0.0 MIT'],
    ['another version', lockWith('node_modules/piscina', { version: '9.9.9' }), 'piscina 9.9.9'],
    ['another licence', lockWith('node_modules/pino', { license: 'AGPL-3.0' }), 'looked at: AGPL'],
    ['no licence', lockWith('node_modules/new', {}), 'looked at: none'],
    ['one that is gone', lockWith('node_modules/preact', { dev: true }), 'not installed: preact'],
  ])('says of %s', (_, lock, why) => {
    expect(differences(LIST, lock).join('\n')).toContain(why);
  });

  test('wants a date and a reason', () => {
    const without = LIST.replace(/\d{4}-\d\d-\d\d/, '');
    expect(differences(without, lockOf())[0]).toContain('without the date');
  });
});
