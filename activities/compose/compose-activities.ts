import { cancellationSignal } from '@temporalio/activity';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import type { CallContext, CallInput } from '../../workflows/contracts/calls.js';
import { failure } from '../../workflows/contracts/errors.js';
import { AbsolutePath } from '../../workflows/contracts/files.js';
import type { SeenCompose } from '../../workflows/contracts/provision-observation.js';
import { runStepJob, targetOf } from '../activity-context.js';
import type { Hosts } from '../hosts/hosts.js';
import { recall, remember } from '../journal.js';

const script = readFileSync(new URL('./compose.sh', import.meta.url), 'utf8');

export const ComposeProject = z.strictObject({ project: z.string(), directory: AbsolutePath, file: z.string() });
export type ComposeProject = z.infer<typeof ComposeProject>;
const ComposeUp = ComposeProject.extend({ timeoutSeconds: z.int().positive() });

/** How long a project may take until all of it runs after `up`. Seconds. */
const SETTLE_SECONDS = 30;

/** A compose project: what its file defines, what of it runs, its volumes. Reads only. */
export async function observeCompose(
  hosts: Hosts,
  context: CallContext,
  { project, directory, file }: ComposeProject,
): Promise<SeenCompose> {
  const { stdout } = await hosts.run(
    targetOf(context),
    { argv: ['/bin/bash', '-c', script, 'compose', 'look', project, directory, file] },
    { signal: cancellationSignal() },
  );
  const of = (word: string): string[] =>
    stdout
      .split('\n')
      .flatMap((line) => (line.startsWith(`${word} `) ? [line.slice(word.length + 1)] : []))
      .sort();
  return { defined: of('defined'), running: of('running'), volumes: of('volume') };
}

export function createComposeActivities({ hosts }: { hosts: Hosts }) {
  const run = (
    context: CallContext,
    command: string,
    { project, directory, file }: ComposeProject,
    more: string[] = [],
  ) =>
    hosts.run(
      targetOf(context),
      { argv: ['/bin/bash', '-c', script, 'compose', command, project, directory, file, ...more], timeoutSeconds: 500 },
      { fence: context.fence, signal: cancellationSignal() },
    );
  return {
    /**
     * Changes nothing: notes what of a compose project runs, before its files are changed. Its undo, `reapplyCompose`, runs after their
     * undos. Idempotent by (run, step).
     */
    async noteCompose({ with: raw, context }: CallInput) {
      const project = ComposeProject.parse(raw);
      await remember<SeenCompose>(hosts, context, () => observeCompose(hosts, context, project));
    },

    /** Undo of `noteCompose`: a project that ran then is started with the old files again. Idempotent. */
    async reapplyCompose({ with: raw, context }: CallInput) {
      const project = ComposeProject.parse(raw);
      const before = await recall<SeenCompose>(hosts, context);
      if (before && before.running.length > 0) await run(context, 'up', project);
    },

    /**
     * Starts a compose project, and again what of it has changed; returns once every service is seen to run. A job, as images may have to
     * be fetched. Idempotent by (run, step, generation); undo `stopMadeCompose`.
     */
    async startCompose({ with: raw, context }: CallInput) {
      const { timeoutSeconds, ...project } = ComposeUp.parse(raw);
      const target = targetOf(context);
      await remember<SeenCompose>(hosts, context, () => observeCompose(hosts, context, project));
      await runStepJob(hosts, target, context, {
        command: { script, args: ['up', project.project, project.directory, project.file] },
        timeoutSeconds,
      });
      let missing: string[] = [];
      for (const until = Date.now() + SETTLE_SECONDS * 1000; Date.now() < until; await delay(500)) {
        const { defined, running } = await observeCompose(hosts, context, project);
        missing = defined.filter((service) => !running.includes(service));
        if (missing.length === 0) return { summary: `${defined.length} services run` };
      }
      throw failure(
        'VerificationFailed',
        `${missing.join(', ')} of ${project.project} on ${target.name} does not run`,
        {
          host: target.name,
          step: context.step,
          remedy: `docker compose -p ${project.project} logs ${missing[0]}`,
        },
      );
    },

    /**
     * Undo of `startCompose` where nothing of the project ran before: removes its containers, networks and the volumes that came with it.
     * What ran before is left to `reapplyCompose`. Idempotent by (run, step).
     */
    async stopMadeCompose({ with: raw, context }: CallInput) {
      const project = ComposeProject.parse(raw);
      const before = await recall<SeenCompose>(hosts, context);
      if (!before || before.running.length > 0) return;
      const { volumes } = await observeCompose(hosts, context, project);
      await run(
        context,
        'down',
        project,
        volumes.filter((volume) => !before.volumes.includes(volume)),
      );
    },
  };
}
