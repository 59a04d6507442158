import type { Plan } from '../contracts/plan.js';
import type { Sources } from '../contracts/planning.js';
import type { SeenHost } from '../contracts/provision-observation.js';
import type { System } from '../contracts/system.js';
import type { HostPart } from './observation.js';

/** A download of all packages over a slow line. Seconds. */
export const PACKAGE_SECONDS = 1800;
/** How long a service is away while it is restarted. Seconds. */
export const RESTART_SECONDS = 10;

/** One host, as it is and as the inventory wants it. */
export interface Work {
  system: System;
  part: HostPart;
  now: SeenHost;
  sources: Sources;
  /** What the operator has to know besides the steps; filled while planning. */
  notes: string[];
  downtime: Plan['downtime'];
}

/** Services are restarted by a deploy or by `restart-service`, never here: until then they run with what they have read. */
export const readLater = ({ system, part }: Work, path: string): string =>
  `${part.host}: what runs keeps the old ${path} until it is restarted: guardia run restart-service ${system.system}`;
