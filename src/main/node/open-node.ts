/** openNode(): takes a data directory, recovers its log, starts the node. */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { type EngramError, failure } from '../../shared/errors.js';
import { frameBytesOf } from '../../shared/limits.js';
import { makeCopied } from '../../shared/log/space-facts.js';
import { manyListeners } from '../follow/apply.js';
import { leaseRefusal } from '../lead/coordinator.js';
import { checkEtcdFiles } from '../lead/etcd/access.js';
import { readOptions } from '../options/config.js';
import type { NodeConfig, NodeOptions } from '../options/options.js';
import type { PeerIdentity } from '../peer/client.js';
import { settleEntryLimit } from '../recovery/entry-limit.js';
import { type OpenedNodeFile, openNodeFile } from '../recovery/node-file.js';
import { openingError } from '../recovery/opening-error.js';
import { Openings } from '../recovery/openings.js';
import type { Recovered } from '../recovery/recovery.js';
import { recover } from '../recovery/recovery.js';
import { stayAlive } from '../runtime/alive.js';
import { CredentialStore } from '../runtime/credentials.js';
import type { Emit } from '../runtime/emit.js';
import { Refusals } from '../runtime/refusals.js';
import { checkHost } from '../runtime/threads.js';
import { holdsNothing } from '../segments/directory-lock.js';
import { type Disk, makeDirDurably, nameAnew, putBack } from '../segments/disk.js';
import { DiskInUse } from '../segments/disk-in-use.js';
import { nodeDisk } from '../segments/node-disk.js';
import { NodeEmitter } from '../tell/emitter.js';
import type { NodeEvents } from '../tell/events.js';
import { openAdmin } from '../watch/admin/server.js';
import { isCopyInUse } from '../watch/admin/socket.js';
import type { OperatedProcess } from '../watch/seen-node.js';
import { FollowPart } from './follow-part.js';
import { LeadPart } from './lead-part.js';
import { LogPart } from './log-part.js';
import { nodePlatform, type Platform } from './machine.js';
import { takeAppend } from './member-appends.js';
import { handleTo, type Node } from './node.js';
import { endAll, type Ground, type Parts } from './parts.js';
import { repairing } from './repair-part.js';
import { ShipPart } from './ship-part.js';
import { SpaceHandles } from './space-handles.js';
import { WatchPart } from './watch-part.js';

/**
 * Opens a node: takes the lock of its directory, recovers its log, listens and dials.
 * Rejects Configuration, HostUnsuitable, PackageMissing, DataRootUnavailable, Locked, WrongUser,
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
export async function openServed(options: NodeOptions, process?: OperatedProcess): Promise<Node> {
  checkHost();
  const followOf = ({ madeAs }: OpenedNodeFile) => (madeAs > 1 ? 'checkpoint' : 'nothing');
  const administer: Administer = (node, dir, most) => openAdmin(node, dir, most, process);
  const opening = openNodeOn(nodeDisk, options, nodePlatform, administer, followOf);
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
type Administer = (
  node: Node,
  dir: string,
  maxEntryBytes: number,
) => Promise<{ close(): Promise<void> }>;

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
  const credentials = await CredentialStore.open(given);
  if (given.coordinator.kind === 'etcd') await checkEtcdFiles(given.coordinator);
  await putBack(disk, dir).catch((error) => rootError(dir, error));
  const isMade = await makeDirDurably(disk, dir).catch((error) => rootError(dir, error));
  const own = await DiskInUse.take(disk, dir).catch((error) => rootError(dir, error));
  // A directory that is refused is left as it was found.
  let isOurs = false;
  try {
    if (!isMade) await nameAnew(disk, dir, holdsNothing);
    const file = await openNodeFile(own, dir, given);
    isOurs = true;
    const config = { ...given, follow: given.follow ?? followOf(file) };
    const openings = await Openings.count(own, dir);
    const { segmentBytes, strictTail, applyWhenLeading } = config;
    const { logSalt } = file;
    const sizes = [logSalt, segmentBytes, strictTail, applyWhenLeading] as const;
    const recovered = await recover(own, dir, ...sizes);
    requireRoom(recovered.spaces.length, config.maxSpaces);
    const { segments, end } = recovered;
    await settleEntryLimit(own, dir, file, segments, end, config.maxEntryBytes);
    if (file.copied) for (const facts of recovered.spaces) makeCopied(facts, applyWhenLeading);
    const ground = groundOf(config, platform, openings, credentials);
    const { exposed } = own;
    if (exposed) ground.emitter.emit('directory-exposed', { dataDir: dir, mode: exposed });
    if (openings.isLoop) ground.emitter.emit('crash-loop', openings.told);
    const opened = { disk: own, dir, file, recovered, settled: openings.settled };
    const parts: Building = {};
    try {
      const all = await build(ground, platform, opened, parts);
      const node = handleTo(ground, all, () => own.release());
      credentials.watch((news) => {
        if (news.change === 'reloaded') {
          all.ship.renew(credentials);
          all.follow.renewed();
          all.lead.peers.renewed();
        }
        ground.emitter.emit('credentials', news);
      });
      await all.watch.answerOverHttp();
      if (administer) await all.watch.operatedBy(administer(node, dir, config.maxEntryBytes));
      ground.emitter.release();
      return node;
    } catch (error) {
      // Why it could not be opened is what its host must know.
      await endAll(ground, parts).catch(() => undefined);
      throw error;
    }
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

function groundOf(
  config: NodeConfig,
  platform: Platform,
  openings: Openings,
  credentials: CredentialStore,
): Ground {
  const emitter = new NodeEmitter(config.nodeId, config.logger);
  const stop = manyListeners(new AbortController());
  const refusals = new Refusals((refused) => emitter.emit('connection-refused', refused));
  const coordinator = platform.coordinator(config);
  return { config, emitter, stop, openings, credentials, refusals, coordinator };
}

/** As who this node greets others, and answers them. */
function identityOf({ config, credentials }: Ground, file: OpenedNodeFile): PeerIdentity {
  const { directoryId } = file;
  const { clusterId, nodeId, maxEntryBytes, catchUpBatchBytes } = config;
  const { readTimeoutMs, keepAliveMs } = config;
  const incarnation = randomBytes(8).readBigUInt64LE();
  const maxFrameBytes = frameBytesOf(maxEntryBytes, catchUpBatchBytes);
  const limits = { maxEntryBytes, maxFrameBytes, readTimeoutMs, keepAliveMs };
  return { clusterId, nodeId, incarnation, directoryId, ...limits, credentials };
}

type Building = { -readonly [K in keyof Parts]?: Parts[K] };

interface Opened {
  readonly disk: DiskInUse;
  readonly dir: string;
  readonly file: OpenedNodeFile;
  readonly recovered: Recovered;
  readonly settled: number | undefined;
}

/**
 * The log, what ships, what follows, who leads, what mends, what watches: each is finished before
 * the next one gets it. @param parts where each is put as soon as it is there
 */
async function build(
  ground: Ground,
  platform: Platform,
  opened: Opened,
  parts: Building,
): Promise<Parts> {
  const { config, emitter, coordinator, openings, credentials } = ground;
  const { signal: stop } = ground.stop;
  const emit: Emit<NodeEvents> = (name, event) => emitter.emit(name, event);
  const own = identityOf(ground, opened.file);
  const ackRefusal = (): EngramError | undefined => leaseRefusal(coordinator);

  const log = await LogPart.open({ config, ...opened, ackRefusal, emit });
  parts.log = log;
  const ship = new ShipPart(platform, config, own, log, emit);
  parts.ship = ship;
  const follow = await FollowPart.open({ config, own, log, ship, stop, emit });
  parts.follow = follow;
  const { refusals } = ground;
  const shared = { config, own, log, ship, follow, refusals, stop };
  const lead = new LeadPart({ ...shared, sockets: platform, coordinator, emit });
  parts.lead = lead;
  if (config.listen) await follow.listen(config.listen, platform, lead.leading);
  const repairer = repairing(config, log, ship, follow, lead, emit);
  parts.repairer = repairer;
  await repairer.first(config.openConfirmMs);
  await lead.leadership.start();
  if (opened.recovered.leftovers.length > 0) void log.retention.run();
  const handles = SpaceHandles.of({ config, log, ship, follow, lead, ackRefusal, stop });
  follow.later.append = (ask) => takeAppend(log.spaces, handles, ask);
  const watch = new WatchPart({ ...shared, lead, handles, openings, credentials, emitter });
  follow.later.glance = () => watch.glanceOfNode();
  return Object.assign(parts, { log, ship, follow, lead, repairer, watch, handles });
}
