import type pico from 'picocolors';
import { commandThatDecides } from '../workflows/contracts/gate.js';
import { choiceText } from '../workflows/contracts/hold.js';
import type { RunStatus, StepState, StepStatus } from '../workflows/contracts/run.js';
import { endStates } from '../workflows/contracts/run.js';
import {
  runMilliseconds,
  runTitle,
  stepMilliseconds,
  type RunActivity,
  type RunEnd,
  type RunView,
} from './run-view.js';
import { fit } from './text-table.js';
import { bytesText, durationText } from './text-units.js';

type Colors = ReturnType<typeof pico.createColors>;

/** Signs of the step tree. Words stand beside every sign that is not plain. */
const signs: Record<StepState, string> = {
  waiting: '·',
  running: '▶',
  done: '✔',
  failed: '✖',
  undoing: '↺',
  undone: '↺',
  'undo failed': '!',
  kept: '✔',
  skipped: '-',
  holding: '?',
};

function signOf(state: StepState, colors: Colors): string {
  const sign = signs[state];
  switch (state) {
    case 'done':
    case 'kept':
      return colors.green(sign);
    case 'failed':
    case 'undo failed':
      return colors.red(sign);
    case 'running':
    case 'undoing':
      return colors.cyan(sign);
    case 'undone':
    case 'skipped':
    case 'holding':
      return colors.yellow(sign);
    case 'waiting':
      return colors.dim(sign);
  }
}

export function endInColor(end: RunEnd, colors: Colors): string {
  if (end === 'terminated' || end === 'timed out') return colors.red(end);
  if (endStates[end].exitCode === 0) return colors.green(end);
  return end === 'cancelled' || end === 'rolled back' || end === 'rejected' ? colors.yellow(end) : colors.red(end);
}

/** `412 MB read, 98 MB stored, 48 MB/s`: what a job tells about itself. Empty when it tells nothing. Pure. */
export function progressText(
  activity: Pick<RunActivity, 'progress' | 'bytesPerSecond' | 'unreachable' | 'attempt' | 'lastFailure'>,
): string {
  const { progress = {}, bytesPerSecond, unreachable, attempt, lastFailure } = activity;
  const parts: string[] = [];
  const { bytes, stored } = progress;
  if (typeof bytes === 'number') parts.push(`${bytesText(bytes)} read`);
  if (typeof stored === 'number') parts.push(`${bytesText(stored)} stored`);
  if (bytesPerSecond !== undefined) parts.push(`${bytesText(bytesPerSecond)}/s`);
  if (unreachable !== undefined) parts.push(`host does not answer, still trying: ${unreachable}`);
  else if (attempt > 1) parts.push(`try ${attempt}${lastFailure === undefined ? '' : ` after: ${lastFailure}`}`);
  return parts.join(', ');
}

/** A run as a tree of stages, lanes and steps, with what it waits for and what came out. One string, lines cut to `columns`. Pure. */
export function runTree(view: RunView, options: { now: number; columns: number; colors: Colors }): string {
  const { colors, columns, now } = options;
  const { report } = view;
  const time = durationText(runMilliseconds(view, now));
  const state =
    view.end === undefined ? colors.cyan(report?.phase ?? 'waiting for a worker') : endInColor(view.end, colors);
  const lines: string[] = [
    `${colors.bold(runTitle(view))}  ${state}  ${colors.dim(time)}`,
    colors.dim(fit(view.workflowId, columns)),
  ];
  if (report !== undefined) lines.push(...stepLines(view, options));
  for (const activity of view.activities.filter(
    ({ step, attempt, unreachable }) => step === undefined && (attempt > 1 || unreachable !== undefined),
  ))
    lines.push(colors.yellow(fit(`  ${activity.activity}: ${progressText(activity)}`, columns)));
  if (report?.waitingFor !== undefined && view.open) lines.push('', `${colors.yellow('waits:')} ${report.waitingFor}`);
  if (report !== undefined && view.open) lines.push(...howToAnswer(report).map((line) => `  ${line}`));
  if (view.trouble !== undefined) lines.push('', `${colors.yellow(`${view.trouble.kind}:`)} ${view.trouble.message}`);
  if (report !== undefined && report.notes.length > 0)
    lines.push('', ...report.notes.map((note) => `${colors.dim('note:')} ${note}`));
  if (report !== undefined && report.remaining.length > 0)
    lines.push('', colors.red('to be done by hand:'), ...report.remaining.map((line) => `  - ${line}`));
  if (view.end !== undefined) lines.push('', view.message ?? view.end, ...resultLines(view));
  return lines.join('\n');
}

/** Whether a run goes on only after somebody has decided. Pure. */
export const waitsForPeople = ({ phase }: RunStatus): boolean =>
  phase === 'waiting for approval' || phase === 'waiting for a person';

/** What an open gate asks for and where the run holds, each with the commands that answer it. Pure. */
export function howToAnswer({ gates, holds, workflowId }: RunStatus): string[] {
  return [
    ...gates
      .filter(({ state }) => state === 'open')
      .flatMap((gate) => [
        `${gate.decisions.length} of ${gate.approvals} from ${gate.approvers.join(', ')}, until ${gate.closesAt}, then ${gate.onTimeout}`,
        ...(gate.oneMore === undefined
          ? []
          : [`one more than usual, because it is not proved who asked: ${gate.oneMore}`]),
        `read it:  guardia plan ${workflowId}`,
        `decide:   ${commandThatDecides('approve', workflowId, gate)}`,
        `or:       ${commandThatDecides('reject', workflowId, gate)}`,
      ]),
    ...holds.flatMap((hold) => [
      `${hold.title} on ${hold.on}: ${hold.reason}`,
      ...hold.atStake.map((line) => `at stake: ${line}`),
      ...hold.byHand.map((line) => `left to be done by hand, if it ends here: ${line}`),
      ...hold.choices.map(
        (choice) =>
          `guardia recover ${workflowId} ${choice} --hold ${hold.id} --reason WHY    ${choiceText(choice, hold)}`,
      ),
    ]),
  ];
}

/** The part of a tree that fits into a window: its head, and what surrounds the first step that is under way. Pure. */
export function windowOf(tree: string, rows: number): string {
  const lines = tree.split('\n');
  if (lines.length <= rows) return tree;
  const head = lines.slice(0, 2);
  const rest = lines.slice(2);
  const room = Math.max(1, rows - head.length - 1);
  const busy = rest.findIndex((line) => line.includes(signs.running) || line.includes(signs.undoing));
  const from = Math.min(Math.max(0, (busy < 0 ? rest.length : busy) - Math.floor(room / 3)), rest.length - room);
  return [...head, ...rest.slice(from, from + room), `(${rest.length - room} more lines)`].join('\n');
}

function stepLines(
  view: RunView,
  { now, columns, colors }: { now: number; columns: number; colors: Colors },
): string[] {
  const steps = view.report?.steps ?? [];
  const lines: string[] = [];
  let stage: string | undefined;
  let lane: string | undefined;
  for (const step of steps) {
    if (step.stage !== stage) {
      stage = step.stage;
      lane = undefined;
      lines.push('', `${colors.bold(stage)}`);
    }
    const many = new Set(steps.filter((other) => other.stage === stage).map(({ on }) => on)).size > 1;
    if (many && step.on !== lane) lines.push(`  ${colors.dim(step.on)}`);
    lane = step.on;
    lines.push(...stepLine(step, view, { now, columns, colors, indent: many ? '    ' : '  ', named: !many }));
  }
  return lines;
}

function stepLine(
  step: StepStatus,
  view: RunView,
  options: { now: number; columns: number; colors: Colors; indent: string; named: boolean },
): string[] {
  const { colors, columns, indent, now } = options;
  const took = stepMilliseconds(step, now);
  const words = [
    ...(options.named ? [`on ${step.on}`] : []),
    ...(['waiting', 'running', 'done', 'kept'].includes(step.state) ? [] : [step.state]),
    ...(took === undefined ? [] : [durationText(took)]),
    ...(step.state === 'running' && step.expectedSeconds !== undefined
      ? [`of about ${durationText(step.expectedSeconds * 1000)}`]
      : []),
    ...(step.generation > 1 ? [`run ${step.generation}`] : []),
  ];
  const room = columns - indent.length - 2;
  const tail = words.length === 0 ? '' : `  ${words.join(', ')}`;
  const title = fit(step.title, Math.max(20, room - tail.length));
  const main = `${indent}${signOf(step.state, colors)} ${step.state === 'waiting' ? colors.dim(title) : title}${colors.dim(tail)}`;
  const activity = view.activities.find((candidate) => candidate.step === step.id);
  const busy = step.state === 'running' || step.state === 'undoing';
  const progress = activity !== undefined && busy ? progressText(activity) : '';
  const below = [progress, step.note ?? ''].filter((text) => text !== '').join('; ');
  if (below === '') return [main];
  const failed = step.state === 'failed' || step.state === 'undo failed';
  // A failure is read to its end; everything else is one line.
  const text = failed ? below : fit(below, room);
  return [main, `${indent}  ${failed ? colors.red(text) : colors.dim(text)}`];
}

function resultLines(view: RunView): string[] {
  const result = view.report?.result ?? {};
  return (
    Object.entries(result)
      // Lists are for --json and the record: the line of each step says what matters of them.
      .filter(([, value]) => value !== undefined && typeof value !== 'object')
      .map(([key, value]) => {
        const text = typeof value === 'string' ? value : JSON.stringify(value);
        return `  ${key}: ${key === 'bytes' && typeof value === 'number' ? bytesText(value) : text}`;
      })
  );
}

/** So often a step that runs is spoken of where there is no live view. Milliseconds. */
const SPEAK_EVERY_MS = 30_000;

/**
 * Says what changed since the last view, one line each, for logs and pipes. Keeps what it has said already: make one for
 * each run.
 */
export function changeTeller(): (view: RunView, now: number) => string[] {
  const said = new Map<string, string>();
  const spoken = new Map<string, number>();
  const changed = (key: string, value: string): boolean => {
    if (said.get(key) === value) return false;
    said.set(key, value);
    return true;
  };
  return (view, now) => {
    const lines: string[] = [];
    const { report } = view;
    if (report !== undefined && view.open && changed('phase', `${report.phase} ${report.waitingFor ?? ''}`))
      lines.push(`${report.phase}${report.waitingFor === undefined ? '' : `: ${report.waitingFor}`}`);
    if (report !== undefined && view.open && changed('answer', howToAnswer(report).join('\n')))
      lines.push(...howToAnswer(report).map((line) => `  ${line}`));
    if (changed('trouble', view.trouble?.kind ?? '') && view.trouble !== undefined)
      lines.push(`${view.trouble.kind}: ${view.trouble.message}`);
    for (const step of report?.steps ?? []) {
      const name = `${step.title} (${step.on})`;
      const activity = view.activities.find((candidate) => candidate.step === step.id);
      // `kept` is `done` after the point of no return.
      const state = step.state === 'kept' ? 'done' : step.state;
      if (changed(`step ${step.id}`, `${state} ${step.generation}`)) {
        const took = state === 'done' || state === 'failed' ? stepMilliseconds(step, now) : undefined;
        const after = took === undefined ? '' : ` after ${durationText(took)}`;
        const note =
          step.note === undefined || !['done', 'failed', 'undo failed'].includes(state) ? '' : `: ${step.note}`;
        if (state !== 'waiting') lines.push(`${state}: ${name}${after}${note}`);
        spoken.set(step.id, now);
      } else if ((state === 'running' || state === 'undoing') && activity !== undefined) {
        const text = progressText(activity);
        const trouble = activity.unreachable !== undefined || activity.attempt > 1;
        const news =
          changed(`trouble ${step.id}`, trouble ? (activity.unreachable ?? `${activity.attempt}`) : '') && trouble;
        if (text !== '' && (news || now - (spoken.get(step.id) ?? now) >= SPEAK_EVERY_MS)) {
          lines.push(`${state}: ${name}: ${text}`);
          spoken.set(step.id, now);
        }
      }
    }
    for (const activity of view.activities.filter(({ step, attempt }) => step === undefined && attempt > 1))
      if (now - (spoken.get(activity.activity) ?? 0) >= SPEAK_EVERY_MS) {
        lines.push(`${activity.activity}: ${progressText(activity)}`);
        spoken.set(activity.activity, now);
      }
    for (const note of report?.notes ?? []) if (changed(`note ${note}`, 'said')) lines.push(`note: ${note}`);
    if (view.end !== undefined && changed('end', view.end)) {
      for (const line of report?.remaining ?? []) lines.push(`to be done by hand: ${line}`);
      lines.push(`${view.end}: ${view.message ?? ''}`, ...resultLines(view));
    }
    return lines;
  };
}
