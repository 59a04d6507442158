import {
  ActivityFailure,
  ApplicationFailure,
  CancelledFailure,
  ChildWorkflowFailure,
  TimeoutFailure,
} from '@temporalio/common';
import { setCurrentDetails, upsertSearchAttributes } from '@temporalio/workflow';
import { commandThatDecides, type GateStatus } from '../contracts/gate.js';
import { choiceText, type Hold } from '../contracts/hold.js';
import { placeOf, stepsOf, type Plan } from '../contracts/plan.js';
import type { Phase, RunStatus, StepStatus } from '../contracts/run.js';
import { GuardiaPhase, GuardiaWaitingFor } from '../contracts/search-attributes.js';

/** Temporal keeps at most this much of the current details. Bytes. */
const DETAILS_BYTES = 20_000;

/** PostgreSQL's visibility store keeps at most this much of a keyword, and refuses the run with more. Characters. */
const KEYWORD_CHARACTERS = 255;

/** Owns what is told about a run: the status query, the current details, the phase attribute. */
export interface Progress {
  readonly status: RunStatus;
  phase(phase: Phase, waitingFor?: string): void;
  planned(plan: Plan, digest: string): void;
  step(id: string, change: Partial<StepStatus>): void;
  note: (text: string) => void;
  /** Tells that the list of holds has changed: the run waits for a person while there is one, then goes on with what it did. */
  hold(): void;
  show(): void;
}

export function createProgress(status: RunStatus): Progress {
  const show = (): void => setCurrentDetails(details(status));
  let beforeHold: Phase | undefined;
  const progress: Progress = {
    status,
    show,
    phase(phase, waitingFor) {
      const before = { phase: status.phase, waitingFor: status.waitingFor };
      status.phase = phase;
      if (waitingFor === undefined) delete status.waitingFor;
      else status.waitingFor = waitingFor;
      if (before.phase !== phase || before.waitingFor !== waitingFor)
        upsertSearchAttributes([
          { key: GuardiaPhase, value: phase },
          ...(before.waitingFor !== waitingFor
            ? [{ key: GuardiaWaitingFor, value: waitingFor?.slice(0, KEYWORD_CHARACTERS) ?? null }]
            : []),
        ]);
      show();
    },
    planned(plan, digest) {
      status.planDigest = digest;
      status.steps = stepsOf(plan).map(({ stage, lane, step }) => ({
        id: step.id,
        title: step.title,
        on: placeOf(lane, step),
        stage: stage.title,
        state: 'waiting',
        generation: 1,
        ...(step.expectedSeconds !== undefined ? { expectedSeconds: step.expectedSeconds } : {}),
      }));
      show();
    },
    step(id, change) {
      const step = status.steps.find((candidate) => candidate.id === id);
      if (!step) return;
      const now = new Date(Date.now()).toISOString();
      if (change.state === 'running' && step.startedAt === undefined) step.startedAt = now;
      if (change.state === 'done' || change.state === 'failed') step.endedAt = now;
      Object.assign(step, change);
      show();
    },
    note(text) {
      if (!status.notes.includes(text)) status.notes.push(text);
      show();
    },
    hold() {
      const { holds } = status;
      if (holds.length > 0) {
        if (status.phase !== 'waiting for a person') beforeHold = status.phase;
        progress.phase('waiting for a person', holds.map(({ title, on }) => `${title} (${on})`).join('; '));
      } else if (beforeHold !== undefined) {
        progress.phase(beforeHold);
        beforeHold = undefined;
      }
    },
  };
  return progress;
}

/** Characters that any font has: a browser without an emoji font shows all emoji as the same empty box. */
const marks: Record<StepStatus['state'], string> = {
  waiting: '☐',
  running: '▶',
  done: '✔',
  failed: '✘',
  undoing: '↩',
  undone: '↩',
  'undo failed': '⚠',
  kept: '✔',
  skipped: '→',
  holding: '‖',
};

/** The run as Markdown, for the Web UI, in at most 20,000 bytes. Pure. */
export function details(status: RunStatus): string {
  const every = render(status, status.steps);
  if (new TextEncoder().encode(every).length <= DETAILS_BYTES) return every;
  // Of a very long plan, what needs a look; the rest is counted.
  const quiet: StepStatus['state'][] = ['waiting', 'done', 'kept', 'undone'];
  return cutToBytes(
    render(
      status,
      status.steps.filter(({ state }) => !quiet.includes(state)),
      quiet
        .map((state) => ({ state, count: status.steps.filter((step) => step.state === state).length }))
        .filter(({ count }) => count > 0)
        .map(({ state, count }) => `${marks[state]} ${count} ${state}`)
        .join(', '),
    ),
    DETAILS_BYTES,
  );
}

/** States that the mark tells by itself. */
const selfEvident: readonly StepStatus['state'][] = ['waiting', 'done', 'kept'];

function render(status: RunStatus, shown: readonly StepStatus[], others = ''): string {
  // Lists are for the report: here each line of a step says what matters of them.
  const came = Object.entries(status.result ?? {})
    .filter(([, value]) => typeof value !== 'object')
    .map(([name, value]) => `${name} ${typeof value === 'string' ? value : JSON.stringify(value)}`);
  const done = status.steps.filter(({ state }) => state === 'done' || state === 'kept').length;
  const head = status.end
    ? [`**${status.runbook} of ${status.system}: ${status.end}**`, status.message ?? '', came.join(', ')]
        .filter((line) => line !== '')
        .join('  \n')
    : `**${status.runbook} of ${status.system}: ${status.phase}**${
        status.waitingFor
          ? ` (${status.waitingFor})`
          : status.phase === 'applying'
            ? ` (${done} of ${status.steps.length} steps done)`
            : ''
      }`;
  const steps = shown.map((step) =>
    oneLine(
      `- ${marks[step.state]} ${step.title} *(${step.on}${selfEvident.includes(step.state) ? '' : `, ${step.state}`})*${step.note ? `: ${step.note}` : ''}`,
    ),
  );
  const remaining = status.remaining.map((line) => oneLine(`- ${line}`));
  const parts = [
    head,
    ...status.gates.filter(({ state }) => state === 'open').map((gate) => gateText(status, gate)),
    ...status.holds.map((hold) => holdText(status, hold)),
    steps.join('\n'),
    others,
    remaining.length > 0 ? `**To be done by hand**\n${remaining.join('\n')}` : '',
    status.notes.map((note) => oneLine(`> ${note}`)).join('\n>\n'),
    `Requested by ${status.requester}${status.reason ? `: ${status.reason}` : ''}${status.planDigest ? `. Plan \`${status.planDigest.slice(0, 12)}\`` : ''}`,
  ];
  // The Web UI cuts off the lower edge of what it shows: let it be a line.
  return [...parts.filter((part) => part !== ''), '---'].join('\n\n');
}

/** What a gate asks for, and how to answer it: the exact command, and the exact JSON for the Web UI. */
function gateText(status: RunStatus, gate: GateStatus): string {
  const answer = {
    gate: gate.id,
    planDigest: gate.planDigest,
    decision: 'approve',
    approver: 'YOUR NAME',
    reason: 'WHY',
    ...(gate.typedSystemName ? { system: 'NAME OF THE SYSTEM' } : {}),
  };
  const decided = gate.decisions.map(
    ({ approver, decision, signed }) => `${approver}: ${decision}${signed ? ', signed' : ''}`,
  );
  return [
    `**${gate.title} waits for ${gate.approvals} of ${gate.approvers.join(', ')}** until ${gate.closesAt}, then: ${gate.onTimeout}${decided.length > 0 ? ` (${decided.join('; ')})` : ''}`,
    ...(gate.oneMore === undefined
      ? []
      : [`One more than usual has to agree, because it is not proved who asked: ${gate.oneMore}`]),
    `Command: \`${commandThatDecides('approve', status.workflowId, gate)}\` or \`${commandThatDecides('reject', status.workflowId, gate)}\``,
    ...(gate.signed ? ['Only signed decisions count here: use the command.'] : [answerText('decide', answer)]),
  ].join('\n\n');
}

/** Where the run holds, and how to answer. */
function holdText(status: RunStatus, hold: Hold): string {
  const [first = 'retry'] = hold.choices;
  return [
    `**Holds at "${hold.title}" on ${hold.on}**: ${oneLine(hold.reason)}`,
    ...(hold.atStake.length > 0 ? [hold.atStake.map((line) => `- ${oneLine(line)}`).join('\n')] : []),
    ...(hold.byHand.length > 0
      ? [`Left to be done by hand, if it ends here:\n${hold.byHand.map((line) => `- ${oneLine(line)}`).join('\n')}`]
      : []),
    hold.choices
      .map(
        (choice) =>
          `- ${choice}: ${choiceText(choice, hold)}. Command: \`guardia recover ${status.workflowId} ${choice} --hold ${hold.id} --reason "WHY"\``,
      )
      .join('\n'),
    answerText('recover', { hold: hold.id, decision: first, reason: 'WHY', by: 'YOUR NAME' }),
  ].join('\n\n');
}

const answerText = (name: string, answer: object): string =>
  `Web UI: _More Actions_, _Send an Update_ (or _a Signal_) \`${name}\` with\n\`\`\`json\n${JSON.stringify(answer)}\n\`\`\``;

const oneLine = (text: string): string => text.replaceAll(/\s*[\r\n]+\s*/g, ' ');

/** At most `limit` bytes of UTF-8; no character is cut in two. The sandbox has no Buffer. */
function cutToBytes(text: string, limit: number): string {
  if (new TextEncoder().encode(text).length <= limit) return text;
  const end = '\n\n(cut)';
  let bytes = end.length;
  let kept = 0;
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    if (bytes > limit) break;
    kept += character.length;
  }
  return text.slice(0, kept) + end;
}

/** The sentence of the failure that guardia or Temporal raised first: what a person wants to read. */
export function reasonOf(error: unknown): string {
  if (error instanceof ActivityFailure || error instanceof ChildWorkflowFailure) {
    if (error.cause instanceof TimeoutFailure && error instanceof ActivityFailure)
      return `${error.activityType} did not end in its time (${(error.cause.timeoutType ?? 'timeout').toLowerCase().replaceAll('_', ' ')})${error.cause.cause ? `: ${reasonOf(error.cause.cause)}` : ''}`;
    return error.cause ? reasonOf(error.cause) : error.message;
  }
  if (error instanceof CancelledFailure) return 'it was cancelled';
  return error instanceof Error ? error.message : String(error);
}

/** The failure that guardia raised, however deep it is wrapped. */
export function applicationFailureIn(error: unknown): ApplicationFailure | undefined {
  for (let at: unknown = error; at instanceof Error; at = at.cause) if (at instanceof ApplicationFailure) return at;
  return undefined;
}
