import type { Observation } from '../contracts/calls.js';
import { failure } from '../contracts/errors.js';
import {
  placeOf,
  PLAN_FORMAT,
  stepsOf,
  type Call,
  type Lane,
  type Plan,
  type Stage,
  type Step,
} from '../contracts/plan.js';
import type { Planner } from '../contracts/planning.js';
import type { RepairInput } from '../contracts/repair.js';
import type { LeftRecord } from '../contracts/run-record.js';
import { storeNeeds, storeReference } from '../contracts/store-reference.js';
import type { System } from '../contracts/system.js';
import { call } from '../steps/call.js';
import { allOf } from '../steps/stages.js';

/** What `observe` asks for, as the planner reads it. */
interface Observed {
  [host: `host ${string}`]: { left: (LeftRecord & { steps: string[] })[] };
}

export const repairPlanner: Planner<RepairInput> = {
  needs(_, system) {
    return [...storeNeeds([]), ...Object.keys(system.hosts).map((host) => `hosts.${host}.connection`)];
  },

  observe(_, system) {
    const hosts = Object.keys(system.hosts);
    return hosts.map((host) => ({
      as: `host ${host}`,
      title: `what terminated runs have left on ${host}`,
      on: host,
      call: call('observeLeftRuns', { store: storeReference(system) }),
    }));
  },

  plan(input, system, observation): Plan {
    const left = leftRuns(observation as Observation & Observed);
    const chosen = choose(input, system, left);
    const base = {
      format: PLAN_FORMAT,
      runbook: 'repair',
      system: system.system,
      downtime: [],
    } satisfies Partial<Plan>;
    if (!chosen) return { ...base, stages: [], notes: ['no terminated run has left anything'] };
    const { record, hosts } = chosen;
    const begun = input.leave || record.ended ? [] : begunOf(record.plan, record, hosts);
    // What stands on a host that nobody sees any more gets no requests.
    const closed = begun.filter(({ lane, step }) => step.undoOpens && !(lane.on in system.hosts));
    const undo = undoStages(
      record,
      begun.filter((one) => !closed.includes(one)),
    );
    return {
      ...base,
      stages: [...undo, forget(record, hosts)],
      notes: [
        ...notesOf(input, record, undo),
        ...closed.map(
          ({ lane, step }) =>
            `Not undone: "${step.title}". ${lane.on} is not in the inventory, and nobody sees what it has.`,
        ),
      ],
    };
  },

  facets: (observation) => observation,
};

/** A terminated run, with its record and the steps that have an entry in the journal of a host. */
interface Left {
  record: LeftRecord;
  hosts: Map<string, Set<string>>;
}

function leftRuns(now: Observation & Observed): Left[] {
  const found = new Map<string, Left>();
  for (const [name, seen] of Object.entries(now) as [string, Observed[`host ${string}`]][]) {
    for (const { steps, ...record } of seen.left) {
      const one = found.get(record.runId) ?? { record, hosts: new Map<string, Set<string>>() };
      one.hosts.set(name.slice('host '.length), new Set(steps));
      found.set(record.runId, one);
    }
  }
  return [...found.values()];
}

function choose(input: RepairInput, system: System, left: Left[]): Left | undefined {
  if (input.run === undefined && left.length <= 1) return left[0];
  const chosen = left.find(({ record }) => record.runId === input.run);
  if (chosen) return chosen;
  const known = left.map(({ record }) => `${record.runId} (${record.workflowId})`).join(', ');
  throw failure(
    'InvalidInput',
    input.run === undefined
      ? `${left.length} terminated runs have left changes on ${system.system}: name one in "run", what was changed last first: ${known}`
      : `no terminated run ${input.run} has left anything on ${system.system}${known === '' ? '' : `; there are: ${known}`}`,
    { remedy: 'Nothing was started' },
  );
}

/** A step of the plan of a run that was terminated, with its undo. */
interface Begun {
  lane: Lane;
  step: Step;
  undo: Call;
}

/** The steps that had begun and have an undo, newest first; behind the point of no return only those that came after it. */
function begunOf(plan: Plan | null, record: LeftRecord, hosts: ReadonlyMap<string, ReadonlySet<string>>): Begun[] {
  // A step may keep its journal on another host than that of its lane: the balancer's, for one.
  const begun = new Set([...hosts.values()].flatMap((steps) => [...steps]));
  if (!plan)
    throw failure(
      'InvalidPlan',
      `the record of ${record.workflowId} (${record.runId}) is not in the bucket: what it planned is not known`,
      { remedy: 'Look at the hosts by hand, then say so: start repair with "leave": true' },
    );
  const all = stepsOf(plan);
  const behind = record.committed ? all.findIndex(({ step }) => step.id === plan.pointOfNoReturn) : -1;
  return all
    .slice(behind + 1)
    .reverse()
    .flatMap(({ lane, step }) => {
      const { undo } = step;
      return 'activity' in undo && begun.has(step.id) ? [{ lane, step, undo }] : [];
    });
}

/** Each undo as a stage of its own: as the run itself would have done. */
function undoStages(record: LeftRecord, begun: readonly Begun[]): Stage[] {
  return begun.map(({ lane, step, undo }, i): Stage =>
    allOf(`undo: ${step.title}`.slice(0, 120), [
      {
        on: placeOf(lane, step),
        steps: [
          {
            // Numbered: what two long ids differ in may lie behind the 60 characters that an id has.
            id: `undo-${i + 1}-${step.id}`.slice(0, 60),
            title: `undo: ${step.title}`,
            why: `${record.workflowId} was terminated after this step had begun`,
            do: undo,
            undo: { none: 'it is an undo itself' },
            repairs: { workflowId: record.workflowId, runId: record.runId, step: step.id },
          },
        ],
      },
    ]),
  );
}

/** Its marks and journals go last: until then a repair that failed can be started again. */
function forget(record: LeftRecord, hosts: ReadonlyMap<string, unknown>): Stage {
  const lanes: Lane[] = [...hosts.keys()].map((on) => ({
    on,
    steps: [
      {
        id: `forget-${on}`,
        title: `forget what ${record.runId} has left on ${on}`,
        why: 'from here on other runs may work there again',
        do: call('forgetLeftRun', { run: record.runId }),
        undo: { none: 'the journal of a run that was seen to is of no use' },
      },
    ],
  }));
  return allOf('forget', lanes);
}

function notesOf(input: RepairInput, record: LeftRecord, undo: Stage[]): string[] {
  return [
    `About ${record.workflowId} (${record.runId}).`,
    ...(record.ended ? ['It has come to its end, and could only not leave its hosts: there is nothing to undo.'] : []),
    ...(input.leave ? ['Nothing is undone: the hosts stay as they are.'] : []),
    ...(record.committed && !record.ended
      ? [`It was behind its point of no return: only what came after it is undone (${undo.length} steps).`]
      : []),
  ];
}
