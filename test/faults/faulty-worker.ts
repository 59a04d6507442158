// A worker as guardia's own, which does one thing wrong: `node .build/test/faults/faulty-worker.js` with the fault in GUARDIA_TEST_FAULT.
// It marks in the fault's file that it has come so far, so that a fault is planted once.
import { activityInfo, heartbeat } from '@temporalio/activity';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { runWorker } from '../../workers/run-worker.js';
import { calls, isCallName, type CallInput } from '../../workflows/contracts/calls.js';
import { failure } from '../../workflows/contracts/errors.js';
import { goOnFile, PLANTED, type PlantedFault } from './planted-fault.js';

const fault = JSON.parse(process.env['GUARDIA_TEST_FAULT'] ?? '{}') as PlantedFault;

/** Into an undo when the worker dies: its first command is under way on the host. Milliseconds. */
const INTO_UNDO_MS = 250;

/** Of a type that nothing is run anew for: a step whose work is done and stored does not fail for another. */
const planted = (): Error => failure('CommandTimedOut', PLANTED);

type Activity = (input: CallInput) => Promise<unknown>;

/** Whether a call is the one that the fault is meant for. */
function isMeant(name: string, { runbook, step }: CallInput['context']): boolean {
  if (fault.activity !== 'runRunbook')
    return runbook === fault.runbook && step === fault.step && name === fault.activity;
  const isChild = activityInfo().workflowExecution?.workflowId.includes(`-${fault.step}-g`);
  return isChild === true && isCallName(name) && ['change', 'job'].includes(calls[name]);
}

/** Does the work of a step, and then what the fault wants. */
const withFault =
  (name: string, real: Activity): Activity =>
  async (input) => {
    const { context } = input as { context?: CallInput['context'] };
    if (context && fault.kind === 'undo' && name === fault.undo && context.step === fault.step) {
      if (existsSync(fault.reached)) return real(input);
      const die = (): void => {
        writeFileSync(fault.reached, `undo of ${context.step}`);
        process.kill(process.pid, 'SIGKILL');
      };
      setTimeout(die, INTO_UNDO_MS);
      await real(input);
      die();
    }
    if (!context || !isMeant(name, context)) return real(input);
    const here = `${name} of ${context.step}`;
    if (fault.kind === 'pause') {
      writeFileSync(fault.reached, here);
      for (; !existsSync(goOnFile(fault.reached)); await delay(100)) heartbeat();
      return real(input);
    }
    // A failure stays one however often it is tried; what comes from outside comes once.
    if (existsSync(fault.reached) && (fault.kind !== 'fail' || readFileSync(fault.reached, 'utf8') !== here))
      return real(input);
    if (fault.kind === 'lose') {
      writeFileSync(fault.reached, here);
      await delay(1000);
      return real(input);
    }
    const result = await real(input);
    if (fault.kind === 'undo') throw planted();
    writeFileSync(fault.reached, here);
    // The work is done, and nobody will ever hear of it.
    if (fault.kind === 'kill') process.kill(process.pid, 'SIGKILL');
    if (fault.kind === 'fail') throw planted();
    return result;
  };

await runWorker(
  (activities) =>
    Object.fromEntries(
      Object.entries(activities).map(([name, real]) => [name, withFault(name, real as Activity)]),
    ) as unknown as typeof activities,
);
