/** openNode(): takes a data directory, recovers its log, starts the node. */
import path from 'node:path';
import { type EngramError, failure } from '../../shared/errors.js';
import { makeCopied } from '../../shared/log/space-facts.js';
import { readOptions } from '../options/config.js';
import type { NodeConfig, NodeOptions } from '../options/options.js';
import { settleEntryLimit } from '../recovery/entry-limit.js';
import { type OpenedNodeFile, openNodeFile } from '../recovery/node-file.js';
import { openingError } from '../recovery/opening-error.js';
import { Openings } from '../recovery/openings.js';
import { recover } from '../recovery/recovery.js';
import { stayAlive } from '../runtime/alive.js';
import { checkHost } from '../runtime/threads.js';
import { type Disk, makeDirDurably } from '../segments/disk.js';
import { DiskInUse } from '../segments/disk-in-use.js';
import { nodeDisk } from '../segments/node-disk.js';
import { openAdmin } from '../watch/admin-server.js';
import { isCopyInUse } from '../watch/admin-socket.js';
import { NodeCore } from './core.js';
import { nodePlatform, type Platform } from './machine.js';
import { handleTo, type Node } from './node.js';

/**
 * Opens a node: takes the lock of its directory, recovers its log, listens and dials.
 * Rejects Configuration, HostUnsuitable, DataRootUnavailable, Locked, WrongUser,
 * CorruptionDetected, EngramDirectory, UnsupportedVersion, Io.
 */
export async function openNode(options: NodeOptions): Promise<Node> {
  checkHost();
  return await stayAlive(sound(options, openNodeOn(nodeDisk, options, nodePlatform, openAdmin)));
}

/**
 * For `engram-wal serve`, which has no host: where `follow` is not given, a directory that this
 * release has made follows its primary's checkpoints. An older one keeps everything, as it did.
 */
export async function openServed(options: NodeOptions): Promise<Node> {
  checkHost();
  const followOf = ({ madeAs }: OpenedNodeFile) => (madeAs > 1 ? 'checkpoint' : 'nothing');
  const opening = openNodeOn(nodeDisk, options, nodePlatform, openAdmin, followOf);
  return await stayAlive(sound(options, opening));
}

/** Says of a log that is not whole what nobody would guess: its files are of several moments. */
async function sound<T>(options: NodeOptions, opening: Promise<T>): Promise<T> {
  try {
    return await opening;
  } catch (error) {
    // What was opened as far as this has options that can be read.
    if ((error as EngramError).code !== 'CorruptionDetected') throw error;
    const { dataDir } = options;
    if (!(await isCopyInUse(path.resolve(dataDir)))) throw error;
    const found =
      `${dataDir} was copied while its node ran, so its files are of several moments ` +
      '(engram-wal backup DIR TARGET makes a copy of one moment)';
    const [why] = (error as EngramError).message.split('\n', 1);
    throw failure('CorruptionDetected', `${found}: ${why}`, { cause: error });
  }
}

/** Takes what people ask of a node, until the node closes. */
type Administer = (node: Node, dir: string) => Promise<{ close(): Promise<void> }>;

/**
 * The same on another disk: tests give one that fails, or that loses what was not synced.
 * @param administer the last step, before the host has the node
 * @param followOf what `follow` is where it is not given
 */
export async function openNodeOn(
  disk: Disk,
  options: NodeOptions,
  platform: Platform = nodePlatform,
  administer?: Administer,
  followOf: (file: OpenedNodeFile) => 'checkpoint' | 'nothing' = () => 'nothing',
): Promise<Node> {
  const config = readOptions(options);
  try {
    return await open(disk, config, platform, administer, followOf);
  } catch (error) {
    throw openingError(error, config.dataDir);
  }
}

async function open(
  disk: Disk,
  given: NodeConfig,
  platform: Platform,
  administer: Administer | undefined,
  followOf: (file: OpenedNodeFile) => 'checkpoint' | 'nothing',
): Promise<Node> {
  const dir = path.resolve(given.dataDir);
  await makeDirDurably(disk, dir).catch((error) => rootError(dir, error));
  const own = await DiskInUse.take(disk, dir).catch((error) => rootError(dir, error));
  // A directory that is refused is left as it was found.
  let isOurs = false;
  try {
    const file = await openNodeFile(own, dir, given);
    isOurs = true;
    const config = { ...given, follow: given.follow ?? followOf(file) };
    const openings = await Openings.count(own, dir);
    const { segmentBytes, strictTail } = config;
    const recovered = await recover(own, dir, file.logSalt, segmentBytes, strictTail);
    requireRoom(recovered.spaces.length, config.maxSpaces);
    const { segments, end } = recovered;
    await settleEntryLimit(own, dir, file, segments, end, config.maxEntryBytes);
    if (file.copied) for (const facts of recovered.spaces) makeCopied(facts);
    const core = new NodeCore(config, own, platform, dir, file, recovered);
    const node = handleTo(core);
    try {
      core.attach({ openings });
      await core.start(recovered, file);
      await answerOverHttp(core, config);
      if (administer) core.attach({ admin: await administer(node, dir) });
      core.release();
    } catch (error) {
      // Why it could not be opened is what its host must know.
      await node.close().catch(() => undefined);
      throw error;
    }
    return node;
  } catch (error) {
    await own.release(!isOurs);
    throw error;
  }
}

function requireRoom(spaces: number, maxSpaces: number): void {
  if (spaces <= maxSpaces) return;
  const found = `maxSpaces ${maxSpaces}, and this log holds ${spaces} spaces`;
  throw failure('Configuration', found, { details: { option: 'maxSpaces' } });
}

const ROOT_ERRNOS = ['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST', 'ENOENT', 'ENAMETOOLONG'];

/** Before anything is read: the system does not let the directory be made, or held. */
function rootError(dir: string, error: unknown): never {
  const known = openingError(error, dir);
  const { code } = (known.cause ?? {}) as NodeJS.ErrnoException;
  if (known.code !== 'Io' || !ROOT_ERRNOS.includes(code ?? '')) throw error;
  const found = `${dir}: ${known.message.split('\n', 1)[0]!.slice(known.code.length + 2)}`;
  throw failure('DataRootUnavailable', found, { cause: error, details: { option: 'dataDir' } });
}

/** Loaded only where it is asked for: most hosts need no server. */
async function answerOverHttp(
  core: NodeCore,
  { http, lagAlertThresholdMs }: NodeConfig,
): Promise<void> {
  if (!http) return;
  const { openHttp } = await import('../watch/http-server.js');
  core.attach({ http: await openHttp(core, http, lagAlertThresholdMs) });
}
