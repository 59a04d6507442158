import { commandThatDecides, type GateStatus } from '../contracts/gate.js';
import { choiceText, type Hold } from '../contracts/hold.js';
import { waitNotices, type Notice, type PersonWait } from '../contracts/notice.js';
import type { RunStatus } from '../contracts/run.js';
import type { Telling } from './waiting-for-people.js';

/** Tells people of a wait, in the words of its notices. */
export function tellingOf(status: RunStatus, wait: PersonWait, tell: (notice: Notice) => void): Telling {
  const words = waitNotices(status, wait);
  const now = () => new Date(Date.now()).toISOString();
  let reminders = 0;
  return {
    tell(event, tier) {
      if (event === 'opened') tell(words.first(tier));
      else if (event === 'escalation') tell(words.escalation(tier, now()));
      else tell(words.reminder(++reminders, now(), tier));
    },
    takenUp: (by, tier) => tell(words.takenUp(by, now(), tier)),
    over: (outcome, tier) => tell(words.over(outcome, now(), tier)),
  };
}

/** What people are told about a gate that is open. */
export const gateWait = (workflowId: string, gate: GateStatus): PersonWait => ({
  event: 'waits for a person',
  key: `${gate.id}/${gate.openedAt}`,
  title: gate.title,
  text: `${gate.approvals} of ${gate.approvers.join(', ')} have to agree until ${gate.closesAt}; then: ${gate.onTimeout}.${gate.oneMore === undefined ? '' : ` One more than usual: it is not proved who asked (${gate.oneMore}).`} Read the plan: guardia plan ${workflowId}`,
  command: commandThatDecides('approve', workflowId, gate),
  since: gate.openedAt,
});

/** What people are told about a run that holds. */
export const holdWait = (workflowId: string, hold: Hold): PersonWait => ({
  event: 'needs a person',
  key: `${hold.id}/${hold.since}`,
  title: `${hold.title} on ${hold.on}`,
  text: [
    hold.reason,
    ...hold.atStake,
    ...hold.byHand.map((line) => `Left to be done by hand, if it ends here: ${line}`),
    ...hold.choices.map((choice) => `${choice}: ${choiceText(choice, hold)}`),
  ].join('\n'),
  command: `guardia recover ${workflowId} --hold ${hold.id}`,
  since: hold.since,
  host: hold.on,
  step: hold.id,
});
