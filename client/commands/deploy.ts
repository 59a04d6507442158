import { z } from 'zod';
import { command } from '../command.js';
import { run, runOptions } from './run.js';

const started = runOptions
  .omit({ runbook: true, input: true, set: true })
  .extend({ deployment: z.string().optional() });
const set = (fields: Record<string, string | boolean | undefined>): string[] =>
  Object.entries(fields).flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`]));

/** `guardia deploy SYSTEM [REF]`: the runbook `deploy`. */
export const deploy = command({
  options: started.extend({ ref: z.string().optional(), force: z.boolean().optional() }),
  execute: ({ ref, force, deployment, ...given }, terminal) =>
    run.execute({ ...given, runbook: 'deploy', set: set({ ref, force, deployment }) }, terminal),
});

/** `guardia rollback SYSTEM`: the runbook `rollback`. */
export const rollback = command({
  options: started.extend({ migrations: z.string().optional() }),
  execute: ({ migrations, deployment, ...given }, terminal) =>
    run.execute({ ...given, runbook: 'rollback', set: set({ migrations, deployment }) }, terminal),
});
