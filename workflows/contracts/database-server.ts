import { failure } from './errors.js';
import type { ServerReference } from './server-reference.js';
import type { Database, System } from './system.js';
import { given } from './unset.js';

/** How the host logs in to its server, as a plan may say it. Throws `UnsetValue`, and `InvalidPlan` where the access names no container. Pure. */
export function serverReference(system: System, database: Database): ServerReference {
  const { access } = database;
  const base = { database: database.name, version: given(database.version, 'version'), port: database.port };
  if (access.kind !== 'container') return { ...base, access };
  const service = system.services[access.service];
  switch (service?.kind) {
    case 'compose':
      return {
        ...base,
        access: { kind: 'compose', project: service.project, service: service.service, user: access.user },
      };
    case 'container':
      return { ...base, access: { kind: 'container', container: service.container, user: access.user } };
    default:
      throw failure(
        'InvalidPlan',
        `database ${database.name} of ${system.system}: ${access.service} is no container of this system`,
      );
  }
}
