/** What options must be together, and where they reach. */

import type { Address } from '../../shared/address.js';
import { isLoopback, isWildcard } from '../../shared/address.js';
import { failure } from '../../shared/errors.js';
import { copied } from '../../shared/host-input.js';
import {
  leastMemoryBytes,
  MEMBERS_MAX,
  MEMORY_BUDGET_MAX_BYTES,
  SHIPPED_TIMER_MAX_MS,
  sizesProblem,
} from '../../shared/limits.js';
import type { Member } from '../../shared/log/node-record.js';
import { checkNewName } from '../../shared/names.js';
import { addressProblem, checkOption } from '../../shared/option-checks.js';
import { compressionProblem } from '../../shared/wire/compression.js';
import type { CoordinatorConfig } from '../lead/options.js';
import type { NodeConfig } from './options.js';

function contradiction(found: string): Error {
  return failure('Configuration', found);
}

/** What keeps strangers out. */
type Guards = Pick<NodeConfig, 'keys' | 'keyFile' | 'tls'>;

/** Beyond loopback nothing listens or dials without key or TLS. Throws Configuration. */
function checkReach({ host }: Address, what: string, { keys, keyFile, tls }: Guards): void {
  if (keys.length > 0 || keyFile !== undefined || tls || isLoopback(host)) return;
  const found = `${what} is ${host}, and there is neither key nor tls`;
  throw contradiction(`${found}: without either, loopback hosts only`);
}

/** Throws Configuration where what is acknowledged becomes durable too late to be shipped. */
function checkShips({ fsync }: Pick<NodeConfig, 'fsync'>): void {
  if (fsync === 'none') {
    throw contradiction("fsync is 'none', which ships nothing: leave out replicas and listen");
  }
  if (typeof fsync === 'object' && fsync.timerMs > SHIPPED_TIMER_MAX_MS) {
    const found = `fsync.timerMs is ${fsync.timerMs}, with replicas or listen`;
    throw contradiction(`${found}: members wait for it, ${SHIPPED_TIMER_MAX_MS} at most`);
  }
}

/** A copy of the replica given to addReplica, checked. Throws Configuration. */
export function checkReplica(given: unknown, guards: Guards & Pick<NodeConfig, 'fsync'>): Member {
  checkShips(guards);
  const member = copied('addReplica', given) as Member;
  checkOption('replica', member, (v) => addressProblem(v, 'replica', 1, 'nodeId'));
  checkReach(member, 'the replica', guards);
  checkNewName('the nodeId of a replica', member.nodeId);
  return member;
}

/** Throws Configuration, naming the options that contradict each other. */
export function checkTogether(config: NodeConfig): void {
  checkNewName('nodeId', config.nodeId);
  checkNewName('clusterId', config.clusterId);
  checkPlaces(config);
  checkSizes(config);
  if (config.keys.length > 0 && config.keyFile !== undefined) {
    throw contradiction('key and keyFile are both given: leave out one');
  }
  if (config.replicas.length > 0 || config.listen) checkShips(config);
  const { lagDegradedThresholdMs: degradedMs, lagAlertThresholdMs: alertMs } = config;
  if (degradedMs < alertMs) {
    const least = `lagAlertThresholdMs, ${alertMs}`;
    throw contradiction(`lagDegradedThresholdMs is ${degradedMs}, not at least ${least}`);
  }
  if (config.restore && !config.listen) {
    throw contradiction('restore is given without listen: no primary can reach it');
  }
  if (config.appliedUpTo && !config.apply) {
    throw contradiction('appliedUpTo is given without apply');
  }
  if (config.applyWhenLeading && !config.apply) {
    throw contradiction('applyWhenLeading is given without apply');
  }
  if (config.follow === 'checkpoint' && config.apply) {
    throw contradiction("follow is 'checkpoint', with apply: what is not applied must be kept");
  }
  const ids = [config.nodeId, ...config.replicas.map((r) => r.nodeId)];
  for (const [i, id] of ids.entries()) {
    checkNewName('the nodeId of a replica', id);
    if (ids.indexOf(id) === i) continue;
    throw contradiction(`the nodeId ${id} is named twice among this node and replicas`);
  }
}

function checkPlaces(config: NodeConfig): void {
  const { listen, advertise, replicas, coordinator } = config;
  if (replicas.length >= MEMBERS_MAX) {
    throw contradiction(`replicas are ${replicas.length}, not at most ${MEMBERS_MAX - 1}`);
  }
  for (const replica of replicas) checkReach(replica, 'a host in replicas', config);
  if (listen) checkReach(listen, 'listen.host', config);
  if (advertise) checkReach(advertise, 'advertise.host', config);
  if (advertise && !listen) throw contradiction('advertise is given without listen');
  if (coordinator.kind === 'etcd') checkEtcd(config, coordinator);
}

function checkEtcd(
  config: NodeConfig,
  { endpoints }: Extract<CoordinatorConfig, { kind: 'etcd' }>,
): void {
  const { listen, advertise, replicas } = config;
  if (!listen) throw contradiction('coordinator etcd without listen: other nodes must reach it');
  const { host } = advertise ?? listen;
  if (isWildcard(host)) {
    throw contradiction(`${host} cannot be dialled by other nodes: give advertise, host and port`);
  }
  if (replicas.length > 0) {
    throw contradiction('coordinator etcd with replicas: etcd says where a space goes');
  }
  for (const endpoint of endpoints) {
    const at = { host: new URL(endpoint).hostname, port: 0 };
    if (endpoint.startsWith('http:')) checkReach(at, 'a coordinator.endpoints host', config);
  }
}

function checkSizes(config: NodeConfig): void {
  const problem = sizesProblem(config) ?? compressionProblem(config.compression);
  if (problem) throw contradiction(problem);
  const { memoryBudgetBytes, groupBytes } = config;
  const least = leastMemoryBytes(groupBytes);
  const four = `four groups of groupBytes, ${groupBytes}`;
  if (least > MEMORY_BUDGET_MAX_BYTES) {
    throw contradiction(`${four}, are ${least} bytes, more than ${MEMORY_BUDGET_MAX_BYTES}`);
  }
  if (memoryBudgetBytes >= least) return;
  throw contradiction(`memoryBudgetBytes is ${memoryBudgetBytes}, not at least ${least}: ${four}`);
}
