/**
 * The file of `engram-wal serve`: JSON (comments are allowed), every option of openNode that JSON
 * can express, the spaces to open and the level of the log. Keys stand in files of their own or in
 * the environment, never in this one. Whatever is wrong is named with its line.
 */
import fs from 'node:fs/promises';
import path from 'node:path';
import {
  findNodeAtLocation,
  getNodeValue,
  type Node as JsonNode,
  type ParseError,
  parseTree,
  printParseErrorCode,
} from 'jsonc-parser';
import { EngramError, failure } from '../../shared/errors.js';
import { checkName } from '../../shared/names.js';
import type { OpenSpaceOptions } from '../lead/options.js';
import { OPTION_NAMES, readOptions } from '../options/config.js';
import type { NodeOptions } from '../options/options.js';
import { keysIn } from '../runtime/credentials.js';
import { readSecret } from '../runtime/secret-file.js';
import { LEVELS } from '../tell/line.js';

export interface ServeConfig {
  readonly options: NodeOptions;
  readonly spaces: readonly { readonly name: string; readonly options: OpenSpaceOptions }[];
  readonly logLevel: string;
}

/** What a file cannot give: the host's own code. */
const FUNCTIONS = OPTION_NAMES.functions;
const OWN_KEYS = ['spaces', 'logLevel'];
/** Keys as in a file of `keyFile`, a line each. */
export const KEY_VARIABLE = 'ENGRAM_WAL_KEY';

/**
 * Reads and checks the file. Relative names of files (`dataDir`, `keyFile`, in `http` and `tls`)
 * are meant from the file’s own folder. Throws Configuration with file, line and column.
 */
export async function readServeConfig(file: string): Promise<ServeConfig> {
  let text: string;
  try {
    text = await fs.readFile(file, 'utf8');
  } catch (error) {
    throw failure('Configuration', `${file}: ${(error as Error).message}`, { cause: error });
  }
  const root = parse(file, text);
  const at = (...keys: (string | number)[]): string => {
    for (let n = keys.length; n > 0; n--) {
      const found = findNodeAtLocation(root, keys.slice(0, n));
      if (found)
        return place(file, text, (found.parent?.type === 'property' ? found.parent : found).offset);
    }
    return place(file, text, root.offset);
  };
  refuseDoubles(root, file, text);
  const given = getNodeValue(root) as Record<string, unknown>;
  for (const key of Object.keys(given)) {
    if (OWN_KEYS.includes(key) || OPTION_NAMES.all.includes(key)) continue;
    const known = [...OPTION_NAMES.all.filter((k) => !FUNCTIONS.includes(k)), ...OWN_KEYS];
    throw failure('Configuration', `${at(key)}: no option ${key}; known: ${known.join(', ')}`);
  }
  for (const key of FUNCTIONS) {
    if (given[key] === undefined) continue;
    throw failure('Configuration', `${at(key)}: ${key} is code: import the library to give it`);
  }
  if (given.key !== undefined) {
    const found = `key is a secret: give it as keyFile, or as the variable ${KEY_VARIABLE}`;
    throw failure('Configuration', `${at('key')}: ${found}`);
  }
  const { spaces = [], logLevel = 'info', ...rest } = given;
  if (typeof logLevel !== 'string' || !(LEVELS as readonly string[]).includes(logLevel)) {
    throw failure('Configuration', `${at('logLevel')}: logLevel is none of ${LEVELS.join(', ')}`);
  }
  const own = withPaths(rest, path.dirname(path.resolve(file)));
  const options = (await withSecrets(own, at)) as unknown as NodeOptions;
  try {
    readOptions(options);
  } catch (error) {
    if (!(error instanceof EngramError)) throw error;
    const { option } = error.details;
    const found = error.message.split('\n', 1)[0]!.slice(error.code.length + 2);
    const where = typeof option === 'string' ? at(option) : file;
    throw failure('Configuration', `${where}: ${found}`, { cause: error });
  }
  return { options, spaces: readSpaces(spaces, options, at), logLevel };
}

function parse(file: string, text: string): JsonNode {
  const errors: ParseError[] = [];
  const root = parseTree(text, errors, { allowTrailingComma: true });
  const first = errors[0];
  if (first) {
    const what = printParseErrorCode(first.error);
    throw failure('Configuration', `${place(file, text, first.offset)}: no JSON (${what})`);
  }
  if (root?.type !== 'object') throw failure('Configuration', `${file}: no object of options`);
  return root;
}

/** A key that is there twice would silently win over the other. */
function refuseDoubles(node: JsonNode, file: string, text: string): void {
  const seen = new Set<unknown>();
  for (const child of node.children ?? []) {
    if (child.type === 'property') {
      const key: unknown = child.children![0]!.value;
      if (seen.has(key)) {
        throw failure('Configuration', `${place(file, text, child.offset)}: ${key} is given twice`);
      }
      seen.add(key);
    }
    refuseDoubles(child, file, text);
  }
}

/** As editors and compilers name it: file:line:column, from 1. */
function place(file: string, text: string, offset: number): string {
  const lines = text.slice(0, offset).split('\n');
  return `${file}:${lines.length}:${lines.at(-1)!.length + 1}`;
}

function withPaths(given: Record<string, unknown>, dir: string): Record<string, unknown> {
  const from = (value: unknown): unknown =>
    typeof value === 'string' && value !== '' ? path.resolve(dir, value) : value;
  const found = { ...given };
  for (const key of ['dataDir', 'keyFile']) if (key in found) found[key] = from(found[key]);
  const resolved = (files: Record<string, unknown>): Record<string, unknown> =>
    Object.fromEntries(
      Object.entries(files).map(([key, value]) => [
        key,
        key.endsWith('File') ? from(value) : value,
      ]),
    );
  if (isObject(found.tls)) found.tls = resolved(found.tls);
  if (isObject(found.coordinator)) {
    const coordinator = resolved(found.coordinator);
    if (isObject(coordinator.tls)) coordinator.tls = resolved(coordinator.tls);
    found.coordinator = coordinator;
  }
  if (isObject(found.http)) {
    const http = { ...found.http };
    if ('tokenFile' in http) http.tokenFile = from(http.tokenFile);
    if (isObject(http.tls)) http.tls = resolved(http.tls);
    found.http = http;
  }
  return found;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Reads the secrets that stand in files; the newline at their end is none of them. */
async function withSecrets(
  given: Record<string, unknown>,
  at: (...keys: string[]) => string,
): Promise<Record<string, unknown>> {
  const read = async (file: unknown, where: string, isThere: boolean): Promise<string> => {
    if (typeof file !== 'string') throw failure('Configuration', `${where}: no name of a file`);
    if (isThere) throw failure('Configuration', `${where}: the secret itself is given as well`);
    return (await readSecret(where, file)).toString('utf8').replace(/\r?\n$/, '');
  };
  const found = { ...given };
  const inEnvironment = process.env[KEY_VARIABLE];
  if (inEnvironment !== undefined) found.key = keysIn(inEnvironment, KEY_VARIABLE);
  if (isObject(found.http) && found.http.tokenFile !== undefined) {
    const { tokenFile, ...http } = found.http;
    const token = await read(tokenFile, at('http', 'tokenFile'), 'token' in http);
    found.http = { ...http, token };
  }
  return found;
}

function readSpaces(
  spaces: unknown,
  { replicas = [] }: NodeOptions,
  at: (...keys: (string | number)[]) => string,
): ServeConfig['spaces'] {
  const wrong = (where: string, what: string): Error =>
    failure('Configuration', `${where}: ${what}`);
  if (!Array.isArray(spaces)) throw wrong(at('spaces'), 'spaces is no array');
  return spaces.map((given: unknown, i) => {
    const where = at('spaces', i);
    const row = typeof given === 'string' ? { name: given } : given;
    if (typeof row !== 'object' || row === null || Array.isArray(row)) {
      throw wrong(where, 'a space is a name, or an object of name, lead, replicas');
    }
    const { name, lead, replicas: chosen, ...unknown } = row as Record<string, unknown>;
    const [more] = Object.keys(unknown);
    if (more) throw wrong(at('spaces', i, more), `a space has no option ${more}`);
    if (typeof name !== 'string') throw wrong(where, 'a space needs a name');
    try {
      checkName('the name of a space', name);
    } catch (error) {
      throw wrong(where, (error as Error).message.split('\n', 1)[0]!);
    }
    if (lead !== undefined && typeof lead !== 'boolean') {
      throw wrong(at('spaces', i, 'lead'), 'lead is neither true nor false');
    }
    const known = replicas.map((replica) => replica.nodeId);
    const isList = Array.isArray(chosen) && chosen.every((id) => known.includes(id as string));
    if (chosen !== undefined && !isList) {
      throw wrong(at('spaces', i, 'replicas'), `replicas is no array of ${known.join(', ')}`);
    }
    const options: OpenSpaceOptions = {
      ...(lead === undefined ? {} : { lead }),
      ...(chosen === undefined ? {} : { replicas: chosen as string[] }),
    };
    return { name, options };
  });
}
