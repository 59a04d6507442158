import { z } from 'zod';

/** A name that is safe as a file name, a unit name, a key prefix and a workflow id part. */
export const Name = z
  .string()
  .regex(/^[a-z][a-z0-9-]{0,39}$/, 'use lower-case letters, digits and hyphens, at most 40, starting with a letter');

/** The system a runbook works on: the file name, without `.yaml`, below `infra/systems/`. */
export const SystemName = Name.describe('Name of the system: the file below infra/systems/ without .yaml');

/** The host name a lane uses for the machine that the worker itself runs on. */
export const WORKER_HOST = 'worker';

/** The lane name for steps that belong to no host. */
export const SYSTEM_LANE = 'system';

export const StepId = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,59}$/)
  .describe('Unique in the plan; part of job names, journal entries and the record');
export const Port = z.int().min(1).max(65535);
export const AbsolutePath = z.string().regex(/^\/[^\0\n]*$/, 'an absolute path');
/** A host name or an IP address. */
export const HOST_NAME =
  /^(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._-]+)?)$/;

/** Names in a sentence: `api`, `api and web`, `api, web and jobs`. Pure. */
export const listed = (names: readonly string[]): string =>
  names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
