import { setHandler } from '@temporalio/workflow';
import { failure, splitRemedy } from '../contracts/errors.js';
import {
  choiceText,
  recoverSignal,
  recoverUpdate,
  Recovery,
  type Hold,
  type TakenRecovery,
} from '../contracts/hold.js';
import type { System } from '../contracts/system.js';
import { parseInput } from './input.js';
import type { Progress } from './progress.js';
import { waitForPeople, type Telling } from './waiting-for-people.js';

/** Seconds between reminders while a run holds: it keeps a system locked. */
const REMIND_SECONDS = 30 * 60;

/** Why an answer to a run that holds does not count, as the person reads it; undefined when it does. Pure. */
export function reasonToRefuseRecovery(answer: Recovery, holds: readonly Hold[]): string | undefined {
  if (holds.length === 0) return 'the run does not wait for a person: there is nothing to decide';
  const hold = answer.hold === undefined ? (holds.length === 1 ? holds[0] : undefined) : findHold(answer, holds);
  if (!hold)
    return answer.hold === undefined
      ? `the run holds at ${holds.length} places; name one: ${holds.map(({ id }) => id).join(', ')}`
      : `the run does not hold at "${answer.hold}"; it holds at: ${holds.map(({ id }) => id).join(', ')}`;
  if (!hold.choices.includes(answer.decision))
    return `${answer.decision} is no choice at "${hold.title}"; choices: ${hold.choices.map((choice) => `${choice} (${choiceText(choice, hold)})`).join(', ')}`;
  return undefined;
}

const findHold = (answer: Recovery, holds: readonly Hold[]): Hold | undefined =>
  answer.hold === undefined ? holds[0] : holds.find(({ id }) => id === answer.hold);

/** Where a run holds for a person. */
export interface Holds {
  /** Holds until a person has said what to do, without end. Throws when the run is cancelled in a scope that can be. */
  ask(hold: Omit<Hold, 'since'>): Promise<TakenRecovery>;
}

/** Registers the update and the signal `recover`. */
export function createHolds(run: { progress: Progress; system: () => System; asking: (hold: Hold) => Telling }): Holds {
  const { progress } = run;
  const { holds, recoveries } = progress.status;
  const answers = new Map<Hold, TakenRecovery>();

  const open = (): Hold[] => holds.filter((hold) => !answers.has(hold));
  const refuse = (answer: Recovery): void => {
    const reason = reasonToRefuseRecovery(answer, open());
    if (reason !== undefined) throw failure('DecisionRefused', reason);
  };
  const take = (raw: unknown): TakenRecovery => {
    const answer = parseInput(Recovery, raw, 'recover');
    refuse(answer);
    const hold = findHold(answer, open()) as Hold;
    const { id, kind, title, on, reason } = hold;
    const taken: TakenRecovery = {
      ...{ id, kind, title, on, reason },
      decision: answer.decision,
      why: answer.reason,
      by: answer.by,
      at: new Date(Date.now()).toISOString(),
    };
    answers.set(hold, taken);
    recoveries.push(taken);
    return taken;
  };

  setHandler(recoverUpdate, take, {
    description: 'Say what to do where the run holds; the exact JSON is in the details of the run',
    validator: (raw) => refuse(parseInput(Recovery, raw, 'recover')),
  });
  setHandler(
    recoverSignal,
    (raw) => {
      try {
        take(raw);
      } catch (error) {
        progress.note(`What was said to the run does not count: ${splitRemedy(error).message}`);
      }
    },
    { description: 'As the update of this name; whether it counted shows in the details of the run' },
  );

  return {
    async ask(asked) {
      const hold: Hold = { ...asked, since: new Date(Date.now()).toISOString() };
      holds.push(hold);
      progress.hold();
      try {
        await waitForPeople(() => answers.has(hold), {
          summary: `waits for a person: ${hold.title}`,
          tiers: run.system().escalation,
          remindEverySeconds: REMIND_SECONDS,
          telling: run.asking(hold),
          outcome: () => {
            const answer = answers.get(hold);
            return answer ? `${answer.by} said ${answer.decision}: ${answer.why}` : 'the run does not wait any more';
          },
        });
        return answers.get(hold) as TakenRecovery;
      } finally {
        holds.splice(holds.indexOf(hold), 1);
        progress.hold();
      }
    },
  };
}
