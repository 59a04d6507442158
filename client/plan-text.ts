import type pico from 'picocolors';
import { needsSignatures, type Gate } from '../workflows/contracts/gate.js';
import { stepsOf, type Plan, type Stage, type Step } from '../workflows/contracts/plan.js';
import { durationText } from './text-units.js';
import { undoText } from '../workflows/contracts/undo-text.js';

type Colors = ReturnType<typeof pico.createColors>;

/**
 * A plan for people: every stage, host and step with why and undo, the point of no return, expected duration, downtime, notes, digest. Pure.
 */
export function planText(plan: Plan, options: { digest?: string | undefined; colors: Colors }): string {
  const { colors } = options;
  const lines: string[] = [colors.bold(`Plan of ${plan.runbook} for ${plan.system}`)];
  if (plan.stages.length === 0) lines.push('', 'There is nothing to do.');
  if (plan.gate) lines.push('', gateLine(plan.gate, colors));
  let number = 0;
  for (const [i, stage] of plan.stages.entries()) {
    lines.push('', colors.bold(`Stage ${i + 1}: ${stage.title}`) + colors.dim(termsOf(stage)));
    if (stage.gate) lines.push(`  ${gateLine(stage.gate, colors)}`);
    for (const lane of stage.lanes) {
      lines.push(`  ${colors.cyan(laneName(lane.on))}`);
      for (const step of lane.steps) {
        number += 1;
        lines.push(...stepLines(step, number, colors));
        if (plan.pointOfNoReturn === step.id)
          lines.push(colors.yellow('    ---- point of no return: nothing above is undone after this step ----'));
      }
    }
  }
  lines.push('');
  if (plan.pointOfNoReturn === undefined && stepsOf(plan).some(({ step }) => 'activity' in step.undo))
    lines.push('point of no return: none, to the end a failure undoes what was done');
  if (plan.stages.length > 0) lines.push(`expected duration: ${expectedText(plan)}`);
  lines.push(`downtime: ${plan.downtime.length === 0 ? 'none' : inAll(plan.downtime).map(downtimeText).join(', ')}`);
  for (const note of plan.notes) lines.push(`note: ${note}`);
  if (options.digest !== undefined) lines.push(`digest: ${options.digest}`);
  return lines.join('\n');
}

/** How many lanes at once, and how many may fail. */
function termsOf({ lanes, atOnce, errorBudget }: Stage): string {
  const pace =
    atOnce >= lanes.length ? ' side by side' : atOnce === 1 ? ' one after the other' : `, ${atOnce} of them at once`;
  const width = lanes.length === 1 ? '' : `, ${lanes.length} lanes${pace}`;
  if (errorBudget >= lanes.length) return `${width}; a failure here undoes nothing that came before`;
  return errorBudget === 0 ? width : `${width}; goes on when no more than ${errorBudget} fail`;
}

/** Who has to agree before it goes on. */
function gateLine(gate: Gate, colors: Colors): string {
  const signed = needsSignatures(gate);
  const who = gate.approvers === undefined ? '' : ` of ${gate.approvers.join(', ')}`;
  const terms = [
    `${gate.approvals}${who} ${gate.approvals === 1 ? 'has' : 'have'} to agree${signed ? ', signed' : ''}, never who asks for it`,
    ...(signed ? ['one more where the start is not signed'] : []),
    ...(gate.typedSystemName ? ["the system's name is typed"] : []),
    `after ${durationText(gate.timeoutMinutes * 60_000)}: ${gate.onTimeout}`,
  ];
  return `${colors.yellow(`gate "${gate.title}"`)}: ${terms.join('; ')}`;
}

/** How long all of it takes, people and locks aside, as far as that is known of its steps. */
function expectedText(plan: Plan): string {
  const steps = stepsOf(plan);
  const unknown = steps.filter(({ step }) => step.expectedSeconds === undefined).length;
  if (unknown === steps.length) return 'not known: no such run has succeeded yet';
  const seconds = plan.stages.reduce((sum, stage) => sum + secondsOf(stage), 0);
  const but = unknown === 0 ? '' : `, and what ${unknown} of ${steps.length} steps take that no run has done yet`;
  return `about ${durationText(seconds * 1000)}${but}`;
}

/** The lanes of a stage, as many at once as it says: the next one begins where one ends. */
function secondsOf({ atOnce, lanes }: Stage): number {
  const ends = Array.from({ length: Math.min(atOnce, lanes.length) }, () => 0);
  for (const { steps } of lanes) {
    const free = ends.indexOf(Math.min(...ends));
    ends[free] = (ends[free] ?? 0) + steps.reduce((sum, { expectedSeconds = 0 }) => sum + expectedSeconds, 0);
  }
  return Math.max(...ends);
}

/** A service that stands still more than once is named once, with all of it. */
function inAll(downtime: Plan['downtime']): Plan['downtime'] {
  const services = [...new Set(downtime.map(({ service }) => service))];
  return services.map((service) => {
    const its = downtime.filter((one) => one.service === service);
    const worse = its.some(({ ifUndone }) => ifUndone !== undefined);
    return {
      service,
      seconds: its.reduce((sum, { seconds }) => sum + seconds, 0),
      ...(worse ? { ifUndone: its.reduce((sum, { seconds, ifUndone }) => sum + (ifUndone ?? seconds), 0) } : {}),
    };
  });
}

const downtimeText = ({ service, seconds, ifUndone }: Plan['downtime'][number]): string =>
  `${service} ${durationText(seconds * 1000)}${ifUndone === undefined ? '' : ` (${durationText(ifUndone * 1000)} if it fails and is undone)`}`;

function laneName(on: string): string {
  if (on === 'system') return 'no host';
  return on === 'worker' ? "worker's machine" : `host ${on}`;
}

function stepLines(step: Step, number: number, colors: Colors): string[] {
  const details = [
    ...(step.on === undefined ? [] : [`on: ${laneName(step.on)}`]),
    `why: ${step.why}`,
    'none' in step.undo ? `undo: none needed: ${step.undo.none}` : `undo: ${undoText(step.undo)}`,
    ...(step.verify === undefined ? [] : [`proved by: ${step.verify.activity}`]),
    ...(step.attempts !== undefined && step.attempts > 1 ? [`tried up to ${step.attempts} times`] : []),
    ...(step.runAgainIfLost === true ? ['started again if the host goes down meanwhile'] : []),
  ];
  const about =
    step.expectedSeconds === undefined ? '' : colors.dim(`  about ${durationText(step.expectedSeconds * 1000)}`);
  const head = `    ${String(number).padStart(2)}. ${step.title}${about} ${colors.dim(`[${step.id}]`)}`;
  const diff = step.diff === undefined ? [] : step.diff.split('\n').map((line) => `        ${diffLine(line, colors)}`);
  return [head, ...details.map((line) => colors.dim(`        ${line}`)), ...diff];
}

/** A line of a unified diff, in the colours that people know it in. */
function diffLine(line: string, colors: Colors): string {
  if (/^(?:---|\+\+\+|@@|#)/.test(line)) return colors.dim(line);
  if (line.startsWith('+')) return colors.green(line);
  return line.startsWith('-') ? colors.red(line) : line;
}
