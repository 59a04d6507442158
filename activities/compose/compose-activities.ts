import { cancellationSignal } from '@temporalio/activity';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import type { CallContext, CallInput } from '../../workflows/contracts/calls.js';
import { failure, isFailure } from '../../workflows/contracts/errors.js';
import { AbsolutePath } from '../../workflows/contracts/names.js';
import type { SeenCompose } from '../../workflows/contracts/provision-observation.js';
import { beat, cancelStepJobs, runStepJob, targetOf } from '../activity-context.js';
import type { Hosts } from '../hosts/hosts.js';
import { recall, remember } from '../journal.js';

const script = readFileSync(new URL('./compose.sh', import.meta.url), 'utf8');

export const ComposeProject = z.strictObject({ project: z.string(), directory: AbsolutePath, file: z.string() });
export type ComposeProject = z.infer<typeof ComposeProject>;
const ComposeUp = ComposeProject.extend({
  recreate: z
    .boolean()
    .default(false)
    .describe('Whether what runs is made anew, as it reads mounted files at its start only'),
  timeoutSeconds: z.int().positive(),
});

/** How long a project may take until all of it runs after `up`. Seconds. */
const SETTLE_SECONDS = 30;
/** How long each service has to run since one and the same start: one that ends at once is started again by Docker within a second. Seconds. */
const STEADY_SECONDS = 5;
/** What the script says where Docker does not answer. */
const NO_ANSWER = 75;

/** What of a compose project is on its host, as its steps remember it. */
interface ComposeState extends SeenCompose {
  /** When it was looked at, by the clock of the host. Seconds since 1970. */
  now: number;
  /** Services that have a container, running or not. */
  present: string[];
  /** Which start of a service runs, by service; another one after each start. */
  starts: Record<string, string>;
  networks: string[];
}

/** A compose project: what its file defines, what of it runs, its volumes; nothing where Docker does not run yet. Reads only. */
export async function observeCompose(
  hosts: Hosts,
  context: CallContext,
  project: ComposeProject,
): Promise<SeenCompose> {
  try {
    const { defined, running, volumes, images = [] } = await look(hosts, context, project);
    return { defined, running, volumes, ...(images.length === 0 ? {} : { images }) };
  } catch (error) {
    if (!isFailure(error, 'VerificationImpossible')) throw error;
    return { defined: [], running: [], volumes: [] };
  }
}

/** The same for what an undo rests on. Throws `VerificationImpossible` where Docker does not answer: not to see is not to see nothing. */
async function look(
  hosts: Hosts,
  context: CallContext,
  { project, directory, file }: ComposeProject,
): Promise<ComposeState> {
  const { exitCode, stdout } = await hosts.run(
    targetOf(context),
    { argv: ['/bin/bash', '-c', script, 'compose', 'look', project, directory, file], okCodes: [0, NO_ANSWER] },
    { signal: cancellationSignal() },
  );
  if (exitCode === NO_ANSWER) throw noAnswer(context, project);
  const of = (word: string): string[] => [
    ...new Set(
      stdout
        .split('\n')
        .flatMap((line) => (line.startsWith(`${word} `) ? [line.slice(word.length + 1)] : []))
        .sort(),
    ),
  ];
  const starts: Record<string, string> = {};
  for (const [service = '', start = ''] of of('running').map((line) => line.split(' ')))
    starts[service] = service in starts ? `${starts[service]} ${start}` : start;
  return {
    now: Number(of('now')[0] ?? 0),
    defined: of('defined'),
    present: of('present'),
    running: Object.keys(starts),
    starts,
    volumes: of('volume'),
    images: of('image'),
    networks: of('network'),
  };
}

function noAnswer(context: CallContext, project: string) {
  const host = targetOf(context).name;
  return failure(
    'VerificationImpossible',
    `Docker on ${host} does not answer: what of ${project} is there cannot be seen`,
    {
      host,
      step: context.step,
      remedy: 'systemctl status docker',
    },
  );
}

export function createComposeActivities({ hosts }: { hosts: Hosts }) {
  const run = async (
    context: CallContext,
    command: string,
    { project, directory, file }: ComposeProject,
    more: string[],
  ): Promise<string> => {
    const { exitCode, stdout } = await hosts.run(
      targetOf(context),
      {
        argv: ['/bin/bash', '-c', script, 'compose', command, project, directory, file, ...more],
        timeoutSeconds: 500,
        okCodes: [0, NO_ANSWER],
      },
      { fence: context.fence, signal: cancellationSignal() },
    );
    if (exitCode === NO_ANSWER) throw noAnswer(context, project);
    return stdout;
  };
  return {
    /**
     * Changes nothing: notes what of a compose project runs, before its files are changed. Its undo, `reapplyCompose`, runs after their
     * undos. Throws `VerificationImpossible` where Docker does not answer. Idempotent by (run, step).
     */
    async noteCompose({ with: raw, context }: CallInput) {
      const project = ComposeProject.parse(raw);
      await remember<ComposeState>(hosts, context, () => look(hosts, context, project));
    },

    /**
     * Undo of `noteCompose`: what ran then and was started since is made anew, so that it reads its old files. What still runs since then
     * has read nothing else and goes on. Idempotent.
     */
    async reapplyCompose({ with: raw, context }: CallInput) {
      const project = ComposeProject.parse(raw);
      const before = await recall<ComposeState>(hosts, context);
      if (!before) return;
      const { starts } = await look(hosts, context, project);
      const started = before.running.filter((service) => starts[service] !== before.starts[service]);
      // What the old file does not define was added beside it, and no step has touched it. Without the old file Docker says what is wrong.
      const again = started.filter((service) => before.defined.length === 0 || before.defined.includes(service));
      if (again.length > 0) await run(context, 'up', project, ['--force-recreate', '--no-deps', ...again]);
    },

    /**
     * Starts a compose project, and again what of it has changed, or all of it with `recreate`; returns once every service is seen to run and
     * to go on running. What somebody added to the project stays. A job, as images may have to be fetched. Throws `VerificationFailed`.
     * Idempotent by (run, step, generation); undo `stopMadeCompose`.
     */
    async startCompose({ with: raw, context }: CallInput) {
      const { timeoutSeconds, recreate, ...project } = ComposeUp.parse(raw);
      const target = targetOf(context);
      await remember<ComposeState>(hosts, context, () => look(hosts, context, project));
      await runStepJob(hosts, target, context, {
        command: {
          script,
          args: ['up', project.project, project.directory, project.file, ...(recreate ? ['--force-recreate'] : [])],
        },
        timeoutSeconds,
      });
      const seen = new Map<string, { start: string | undefined; at: number }>();
      let restless: string[] = [];
      for (const until = Date.now() + SETTLE_SECONDS * 1000; Date.now() < until; await delay(1000)) {
        beat();
        const { defined, starts } = await look(hosts, context, project);
        const at = Date.now();
        for (const service of defined)
          if (!seen.has(service) || seen.get(service)?.start !== starts[service])
            seen.set(service, { start: starts[service], at });
        restless = defined.filter(
          (service) => starts[service] === undefined || at - (seen.get(service)?.at ?? at) < STEADY_SECONDS * 1000,
        );
        if (defined.length > 0 && restless.length === 0) return { summary: `${defined.length} services run` };
      }
      throw failure(
        'VerificationFailed',
        `${restless.join(', ')} of ${project.project} on ${target.name} does not run, or not for long`,
        {
          host: target.name,
          step: context.step,
          remedy: `docker compose -p ${project.project} logs ${restless[0] ?? ''}`.trimEnd(),
        },
      );
    },

    /**
     * Undo of `startCompose`: its job is stopped; services of the file that did not run before are stopped, and removed if they had no
     * container; where none of them ran, the networks and volumes that came with them go, too. A volume goes only if it came into being after
     * the step began; what ran before is left to `reapplyCompose`, what somebody added stays. Throws `VerificationImpossible` where Docker does not answer.
     * Idempotent by (run, step).
     */
    async stopMadeCompose({ with: raw, context }: CallInput) {
      const project = ComposeProject.parse(raw);
      await cancelStepJobs(hosts, targetOf(context), context);
      const before = await recall<ComposeState>(hosts, context);
      if (!before) return;
      const after = await look(hosts, context, project);
      const made = before.defined.filter(
        (service) => after.present.includes(service) && !before.running.includes(service),
      );
      const ran = before.defined.some((service) => before.running.includes(service));
      const came = (kind: 'volumes' | 'networks'): string[] =>
        ran ? [] : after[kind].filter((name) => !before[kind].includes(name));
      const said = await run(context, 'take-back', project, [
        String(before.now),
        ...made.map((service) => `${before.present.includes(service) ? 'stop' : 'remove'}=${service}`),
        ...came('networks').map((name) => `network=${name}`),
        ...came('volumes').map((name) => `volume=${name}`),
      ]);
      const kept = [...said.matchAll(/^kept (.*)$/gm)].map(([, name]) => name);
      return kept.length === 0 ? undefined : { summary: `kept ${kept.join(', ')}: older than this run, or in use` };
    },
  };
}
