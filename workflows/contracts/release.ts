import { z } from 'zod';

/** `YYYYMMDDTHHMMSSZ-CCCCCCCC-RRRRRRRR`: the time of the run in UTC, the commit's first and the run's last eight digits. Sorts by time. */
export const ReleaseId = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,79}(?<!\.partial)$/, 'a release looks like 20260131T020000Z-0f1e2d3c-1a2b3c4d');
export type ReleaseId = z.infer<typeof ReleaseId>;

/** SHA-1 of a git commit, or the SHA-256 of an archive. */
export const Commit = z.string().regex(/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/, 'a whole commit or digest, in hex');

/** The id for the release that a run builds. The run id's last digits are used: the first ones of a UUID version 7 are its time. Pure. */
export function releaseId(moment: { now: string; runId: string }, commit: string): ReleaseId {
  const time = new Date(moment.now)
    .toISOString()
    .replace(/\.\d+Z$/, 'Z')
    .replace(/[-:]/g, '');
  return ReleaseId.parse(`${time}-${commit.slice(0, 8)}-${moment.runId.replaceAll('-', '').slice(-8)}`);
}

/** What of a deployment is on one host. */
export const ReleaseObservation = z.object({
  link: z.string().nullable().describe('Where the link at the path of the units points to; null where there is none'),
  linkIsOther: z.boolean().describe('Whether something else is there: a plain checkout'),
  current: ReleaseId.nullable().describe('The release that the link points to'),
  releases: z.array(z.object({ id: z.string(), commit: z.string().describe('Empty where guardia did not build it') })),
  partial: z.array(z.string()).describe('What unfinished runs have left'),
  currentBytes: z.number().describe('What the current release takes'),
  freeBytes: z.number(),
  freeInodes: z.number(),
  missing: z.array(z.string()).describe('Shared paths that are not there'),
  userMissing: z.boolean(),
  services: z.record(
    z.string(),
    z.object({
      state: z.string(),
      instance: z.string(),
      disabled: z.boolean().optional().describe('True for a unit that does not start with its host'),
    }),
  ),
});
export type ReleaseObservation = z.infer<typeof ReleaseObservation>;

/** What a ref is now. */
export const ResolvedRef = z.object({
  commit: Commit,
  subject: z.string(),
  migrations: z
    .array(z.object({ name: z.string(), reversible: z.boolean() }))
    .nullable()
    .describe('What the commit brings, in order; null where the inventory does not say how to see it'),
});
export type ResolvedRef = z.infer<typeof ResolvedRef>;
