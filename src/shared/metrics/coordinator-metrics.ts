/** The metrics of who leads: the coordinator, as this node sees it. */
import { gauge, type MetricDefinition, single, yes } from './definition.js';

export const COORDINATOR_METRICS: readonly MetricDefinition[] = [
  gauge(
    'coordinator_connected',
    '1 while the coordinator can be reached (static: always), else 0, by its kind.',
    ({ facts: { coordinator } }) => [
      {
        labels: { kind: coordinator?.kind ?? 'static' },
        value: yes(coordinator?.connected ?? true),
      },
    ],
  ),
  gauge(
    'coordinator_lease_held',
    '1 while this node may acknowledge: its lease is held, or it needs none (static); else 0.',
    single(({ facts }) => yes(facts.coordinator?.lease.held ?? true)),
  ),
  gauge(
    'coordinator_lease_left_ms',
    'For how long the lease holds if it is not renewed; NaN: none is needed; milliseconds.',
    single(({ facts }) => facts.coordinator?.lease.leftMs ?? Number.NaN),
  ),
  gauge(
    'coordinator_leaderless_spaces',
    'Spaces on this node that nobody leads, as the coordinator says; spaces.',
    single(({ facts }) => facts.leaderlessSpaces),
  ),
];
