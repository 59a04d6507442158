import { z } from 'zod';
import { RowBaseline } from './migration.js';
import { Name } from './names.js';
import { stepsOf } from './plan.js';
import { Commit, ReleaseId } from './release.js';
import { runInput, type RunReport } from './run.js';

const deployment = Name.optional().describe("Name of the system's deployment; may be left out where there is only one");

export const DeployInput = z.strictObject({
  ...runInput,
  deployment,
  ref: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$/, 'a branch, a tag, a commit, or the SHA-256 of an archive')
    .optional()
    .describe(
      'What is deployed: a branch, a tag, a commit; of an archive its SHA-256. Default: what the inventory says',
    ),
  force: z.boolean().default(false).describe('Build and switch although this commit is current and healthy everywhere'),
});
export type DeployInput = z.infer<typeof DeployInput>;

export const RollbackInput = z.strictObject({
  ...runInput,
  deployment,
  migrations: z
    .enum(['down', 'keep'])
    .default('down')
    .describe(
      '`down` takes the migrations of the deploy back too; `keep` leaves the schema and its data as they are and only brings the release back',
    ),
});
export type RollbackInput = z.infer<typeof RollbackInput>;

export const RestartServiceInput = z.strictObject({
  ...runInput,
  service: Name.describe('Service of the system'),
});
export type RestartServiceInput = z.infer<typeof RestartServiceInput>;

/** What `applyMigrations` returned: kept in the result of a deploy, because a way back hours later needs it. */
export const AppliedMigrations = z.object({ applied: z.array(z.string()), baseline: RowBaseline });
export type AppliedMigrations = z.infer<typeof AppliedMigrations>;

/** What a way back needs to know of a deploy that succeeded; read from the run's record. */
export const DeployRecord = z.object({
  workflowId: z.string(),
  runId: z.string(),
  endedAt: z.string(),
  release: ReleaseId,
  commit: z.string(),
  hosts: z.record(Name, z.object({ from: ReleaseId.nullable(), downtimeSeconds: z.number().nullable() })),
  enabled: z.array(z.string()).default([]).describe('Units that it let start with their host: "UNIT on HOST"'),
  migrations: AppliedMigrations.extend({
    reversible: z.boolean().describe('Whether the plan had a way back for them'),
  }).nullable(),
});
export type DeployRecord = z.infer<typeof DeployRecord>;

/**
 * The deploy that a run's record tells of: undefined for another runbook, another deployment (told by the path of its link), or a run that did
 * not succeed. A host that failed within the error budget is none of its hosts. Pure.
 */
export function deployOf(report: RunReport, directory: string): DeployRecord | undefined {
  if (report.runbook !== 'deploy' || report.end !== 'succeeded' || !report.plan) return undefined;
  const status = new Map(report.steps.map((step) => [step.id, step]));
  // What a person skipped, he has put right by hand; a host that failed within the budget was put back, and its switch undone.
  const stands = (id: string): boolean => ['done', 'kept', 'skipped'].includes(status.get(id)?.state ?? '');
  const hosts: DeployRecord['hosts'] = {};
  const enabled: string[] = [];
  let release: string | undefined;
  let commit = '';
  for (const { lane, step } of stepsOf(report.plan)) {
    const { activity, with: argument } = step.do;
    const { unit } = argument;
    if (activity === 'setUnit' && typeof unit === 'string' && argument['enabled'] === true && stands(step.id))
      enabled.push(`${unit} on ${lane.on}`);
    if (argument['directory'] !== directory) continue;
    if (activity === 'buildRelease') commit = Commit.catch('').parse(argument['commit']);
    if (activity !== 'switchRelease') continue;
    if (!stands(step.id)) continue;
    release = ReleaseId.parse(argument['to']);
    const [from, to] = [status.get(`stop-${lane.on}`)?.startedAt, status.get(`wait-${lane.on}`)?.endedAt];
    hosts[lane.on] = {
      from: ReleaseId.nullable().catch(null).parse(argument['from']),
      downtimeSeconds: from === undefined || to === undefined ? null : (Date.parse(to) - Date.parse(from)) / 1000,
    };
  }
  if (release === undefined) return undefined;
  const applied = AppliedMigrations.safeParse(report.result?.['migrations']).data;
  return DeployRecord.parse({
    workflowId: report.workflowId,
    runId: report.runId,
    endedAt: report.endedAt ?? report.startedAt,
    release,
    commit,
    hosts,
    enabled,
    migrations: applied ? { ...applied, reversible: report.plan.pointOfNoReturn !== 'migrate' } : null,
  });
}
