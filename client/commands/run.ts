import { z } from 'zod';
import { listSystems, loadSystem } from '../../activities/inventory/load.js';
import { inventoryLocations } from '../../activities/inventory/locations.js';
import { closestName } from '../../activities/inventory/closest-name.js';
import { commandExitCodes, RunReport } from '../../workflows/contracts/run.js';
import { runbooks, type Runbook } from '../../workflows/contracts/runbooks.js';
import { runWorkflowId } from '../../workflows/contracts/workflow-ids.js';
import { CommandFailure } from '../command-failure.js';
import { commandLine } from '../../activities/hosts/shell-quoting.js';
import { command } from '../command.js';
import { planText } from '../plan-text.js';
import { followRun, whereToLook } from '../run-following.js';
import { requesterHere, signRequest } from '../requester.js';
import { missingOptions } from '../missing-options.js';
import { composeInput, parseSettings, readInput, settingsOf, type InputPart } from '../run-input.js';
import { watchRun } from '../run-observer.js';
import { changeTeller } from '../run-text.js';
import { newRunSuffix, startRun, type StartedRun } from '../runs.js';
import { runPage, withTemporal, type TemporalAccess } from '../temporal-access.js';
import type { Terminal } from '../terminal.js';
import { withoutWorker, workersSeen } from '../workers-seen.js';

/** What every start of a run takes. */
export const runOptions = z.object({
  runbook: z.string().optional(),
  system: z.string().optional(),
  plan: z.boolean().default(false),
  input: z.string().optional(),
  set: z.array(z.string()).default([]),
  reason: z.string().optional(),
  requester: z.string().optional(),
  id: z.string().optional(),
  follow: z.boolean().default(true),
});

export type RunOptions = z.infer<typeof runOptions>;

/** What a command of its own says beside `RunOptions`: `guardia deploy SYSTEM REF`. */
export interface OwnOptions {
  /** Fields of the input, by the word of the command line that says them (`REF`, `--force`). */
  fields: Record<string, { said: string; value: string | boolean | undefined }>;
  /** The command line up to here, for whoever wants to run it again. */
  line(system: string): string[];
}

/** `guardia run RUNBOOK SYSTEM`. */
export const run = command({
  options: runOptions,
  execute: (given, terminal) => startAndFollow(given, terminal),
});

/** Starts a run and follows it. What a command says by options of its own wins over `--set`, and that over `--input`. */
export async function startAndFollow(given: RunOptions, terminal: Terminal, own?: OwnOptions): Promise<number> {
  const file = given.input === undefined ? undefined : await readInput(given.input, terminal.streams.stdin);
  const fromFile = file?.values['system'];
  const systemOfFile = typeof fromFile === 'string' ? fromFile : undefined;
  if (!terminal.interactive) refuseMissing(given, systemOfFile, terminal);
  const runbook = given.runbook === undefined ? await chooseRunbook() : runbookNamed(given.runbook);
  const system = given.system ?? systemOfFile ?? (await chooseSystem(terminal));
  const said: InputPart = {
    values: {
      system,
      requester: given.requester ?? requesterHere(terminal.env),
      reason: given.reason,
      ...(given.plan ? { plan: true } : {}),
    },
    place: (field) => (field === 'system' ? 'SYSTEM' : `--${field}`),
  };
  const ofCommand: InputPart = {
    values: Object.fromEntries(Object.entries(own?.fields ?? {}).map(([name, { value }]) => [name, value])),
    place: (field) => own?.fields[field]?.said ?? field,
  };
  const settings = parseSettings(given.set, runbook);
  const input = composeInput(runbook, [...(file ? [file] : []), settings, ofCommand, said]);
  if (given.system !== undefined && fromFile !== undefined && fromFile !== given.system)
    throw new CommandFailure('usage', {
      message: `${file?.place('system')}: the input names system ${JSON.stringify(fromFile)}, the command line ${given.system}; nothing was started`,
    });
  const suffix = given.id ?? newRunSuffix();
  const workflowId = checkedId(runbook, input.system, suffix);
  const sites = sitesOf(input.system, terminal);

  return withTemporal(terminal.env, async (access) => {
    const nobody = withoutWorker(await workersSeen(access, sites));
    const planning = input['plan'] === true;
    if (nobody !== undefined && planning)
      throw new CommandFailure('unreachable', {
        message: nobody.split(': ')[0] ?? nobody,
        remedy: nobody.split(': ')[1],
      });
    const place = { namespace: access.target.namespace, workflowId, runbook: runbook.name };
    const { proof, unproved } = planning ? {} : await signRequest(place, input, terminal.env);
    if (unproved !== undefined)
      terminal.warn(`the start is not signed (${unproved}): one more person than usual has to agree.`);
    const signed = proof === undefined ? input : { ...input, requesterProof: proof };
    const started = await startRun(access, { runbook, input: signed, suffix });
    if (!started.started)
      terminal.say(`${started.workflowId} was started before with this input; nothing new was started.`);
    if (nobody !== undefined) terminal.warn(`${nobody}. The run is safe in Temporal and begins when one is there.`);
    if (planning) {
      const line = own?.line(input.system) ?? ['guardia', 'run', runbook.name, input.system];
      return showPlan(access, started, sameAgain(line, given, file), terminal);
    }
    if (!given.follow) {
      terminal.document({ ...started, webUi: runPage(access, started) });
      terminal.print(`${started.started ? 'started' : 'already there'}: ${started.workflowId}`);
      for (const line of whereToLook(access, started)) terminal.print(line);
      return 0;
    }
    terminal.say([started.workflowId, ...whereToLook(access, started)].join('\n') + '\n');
    return followRun(access, started, terminal);
  });
}

/** Nobody can be asked: names what is missing. Throws `usage`. */
function refuseMissing(given: RunOptions, systemOfFile: string | undefined, terminal: Terminal): void {
  const missing = [
    ...(given.runbook === undefined
      ? [{ name: 'RUNBOOK', placeholder: 'RUNBOOK', choices: Object.keys(runbooks) }]
      : []),
    ...(given.system === undefined && systemOfFile === undefined
      ? [{ name: 'SYSTEM', placeholder: 'SYSTEM', choices: listSystems(inventoryLocations(terminal.env)) }]
      : []),
  ];
  if (missing.length === 0) return;
  const { runbook } = given;
  throw missingOptions(missing, ['guardia', 'run', ...(runbook === undefined ? [] : [runbook])]);
}

function runbookNamed(name: string): Runbook {
  const all: Record<string, Runbook> = runbooks;
  const found = Object.hasOwn(all, name) ? all[name] : undefined;
  if (found !== undefined) return found;
  const meant = closestName(name, Object.keys(all));
  throw new CommandFailure('usage', {
    message: `there is no runbook ${JSON.stringify(name)}${meant === undefined ? '' : `; did you mean "${meant}"?`}`,
    remedy: `Runbooks: ${Object.keys(all).join(', ')}`,
  });
}

async function chooseRunbook(): Promise<Runbook> {
  const { select } = await import('@inquirer/prompts');
  const choices = Object.values(runbooks).map(({ name, title }) => ({ value: name, name: `${name}: ${title}` }));
  return runbookNamed(await select<string>({ message: 'What is to be done?', choices }));
}

async function chooseSystem(terminal: Terminal): Promise<string> {
  const { select } = await import('@inquirer/prompts');
  const choices = listSystems(inventoryLocations(terminal.env)).map((value) => ({ value, name: value }));
  return select({ message: 'On which system?', choices });
}

function checkedId(runbook: Runbook, system: string, suffix: string): string {
  try {
    return runWorkflowId(runbook.name, system, suffix);
  } catch (error) {
    throw new CommandFailure(
      'usage',
      { message: `--id ${suffix}: ${(error as Error).message}`, remedy: 'Letters, digits and _.:+- only, at most 120' },
      { cause: error },
    );
  }
}

/** Where the hosts of the system are reached from. The worker's inventory counts, not this machine's: a system that only it knows is fine. */
export function sitesOf(name: string, terminal: Terminal): string[] {
  try {
    const { system } = loadSystem(name, inventoryLocations(terminal.env));
    return ['main', ...Object.values(system.hosts).map(({ site }) => site)];
  } catch (error) {
    terminal.warn(
      `this machine's inventory cannot be used: ${(error as Error).message.split('\n')[0]}. The worker's own counts.`,
    );
    return ['main'];
  }
}

/**
 * The command that does what was planned: with the same input, and not as a plan. Standard input cannot be read twice, and so its fields are
 * said one by one.
 */
function sameAgain(line: readonly string[], { input, set }: RunOptions, file: InputPart | undefined): string {
  const { system: _, plan, ...fields } = file?.values ?? {};
  const fromStdin = input !== '-' ? [] : settingsOf(fields);
  const fromFile = input === undefined || input === '-' ? [] : ['--input', input];
  const doIt = fromFile.length > 0 && plan === true ? ['plan=false'] : [];
  const settings = [...fromStdin, ...set.filter((one) => !/^plan=/.test(one)), ...doIt];
  return commandLine([...line, ...fromFile, ...settings.flatMap((one) => ['--set', one])]);
}

async function showPlan(
  access: TemporalAccess,
  started: StartedRun,
  again: string,
  terminal: Terminal,
): Promise<number> {
  const tell = changeTeller();
  for await (const view of watchRun(access, started, { signal: terminal.interruption() })) {
    if (view.open) {
      if (view.trouble !== undefined) for (const line of tell(view, Date.now())) terminal.say(line);
      continue;
    }
    const report = RunReport.safeParse(view.report).data;
    if (view.end !== 'planned' || report?.plan === undefined) {
      terminal.document(view.report ?? view);
      terminal.say(`guardia: ${view.message ?? view.end}`);
    } else {
      terminal.document(report);
      terminal.print(planText(report.plan, { digest: report.planDigest, colors: terminal.colors }));
      terminal.print(`\nNothing was started. To do it: ${again}`);
    }
    return view.exitCode ?? 0;
  }
  terminal.say(`\nThe plan is still being made: guardia watch ${started.workflowId}`);
  return commandExitCodes['still running'].exitCode;
}
