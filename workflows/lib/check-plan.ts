import { isCallName } from '../contracts/calls.js';
import { failure } from '../contracts/errors.js';
import { Plan, stepsOf, type Call } from '../contracts/plan.js';
import { referenceIn } from './calls.js';

/** A run has at most 51,200 events (Temporal's limit); a step takes about 6, its undo as many, its retries more. */
const MOST_STEPS = 1_000;
/**
 * A history holds the plan up to nine times, when it is made anew, recorded and returned; whoever reads a page of the history gets it in one
 * message of at most 4 MB (gRPC's limit). Bytes of JSON.
 */
const MOST_BYTES = 300_000;

/**
 * Checks a plan when it is made: its shape, known calls, unique steps, references to earlier steps of the same lane or an
 * earlier stage, an existing point of no return. Throws `InvalidPlan` that names every mistake.
 */
export function checkPlan(plan: Plan): Plan {
  const parsed = Plan.safeParse(plan);
  if (!parsed.success)
    throw failure(
      'InvalidPlan',
      `the plan has the wrong shape: ${parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ')}`,
    );
  const mistakes: string[] = [];
  const all = stepsOf(plan);
  const ids = all.map(({ step }) => step.id);
  for (const id of new Set(ids.filter((id, index) => ids.indexOf(id) !== index)))
    mistakes.push(`step ${id} stands in it twice`);
  if (plan.pointOfNoReturn !== undefined && !ids.includes(plan.pointOfNoReturn))
    mistakes.push(`the point of no return ${plan.pointOfNoReturn} is no step of it`);
  const beside = all.find(({ step }) => step.id === plan.pointOfNoReturn)?.stage.lanes.length ?? 1;
  if (beside > 1)
    mistakes.push(
      `the point of no return ${plan.pointOfNoReturn} has other lanes beside it: give it a stage of its own, so that it is clear what stands`,
    );
  const bytes = new TextEncoder().encode(JSON.stringify(plan)).length;
  if (bytes > MOST_BYTES) mistakes.push(`it has ${bytes} bytes, at most ${MOST_BYTES} fit one run`);
  if (all.length > MOST_STEPS) mistakes.push(`it has ${all.length} steps, at most ${MOST_STEPS} fit one run`);
  const known = new Set<string>();
  for (const stage of plan.stages) {
    const added: string[] = [];
    for (const lane of stage.lanes) {
      const visible = new Set(known);
      for (const step of lane.steps) {
        for (const call of [step.do, step.verify, 'activity' in step.undo ? step.undo : undefined]) {
          if (!call) continue;
          if (!isCallName(call.activity)) mistakes.push(`step ${step.id} calls ${call.activity}, which does not exist`);
          for (const from of referencesOf(call)) {
            if (call === step.undo)
              mistakes.push(`the undo of ${step.id} needs a result of ${from}: an undo finds what it needs by itself`);
            else if (!visible.has(from) && !(call === step.verify && from === step.id))
              mistakes.push(`step ${step.id} needs a result of ${from}, which does not run before it`);
          }
        }
        visible.add(step.id);
        added.push(step.id);
      }
    }
    for (const id of added) known.add(id);
  }
  if (mistakes.length > 0)
    throw failure('InvalidPlan', `the plan of ${plan.runbook} for ${plan.system} is wrong: ${mistakes.join('; ')}`);
  return plan;
}

function referencesOf(call: Call): string[] {
  const found: string[] = [];
  const walk = (value: unknown): void => {
    if (Array.isArray(value)) value.forEach(walk);
    else if (typeof value === 'object' && value !== null) {
      const reference = referenceIn(value);
      if (reference) found.push(reference.from);
      else Object.values(value).forEach(walk);
    }
  };
  walk(call.with);
  return found;
}
