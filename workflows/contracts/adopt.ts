import { z } from 'zod';
import { AccountName } from './files.js';
import { AbsolutePath, Name } from './names.js';
import { runInput } from './run.js';

const On = Name.describe('Host of this system, or a group of its hosts');
/** What was set up by hand and is taken over: the section `adopt` of a system. */
export const Adoption = z.strictObject({
  checkouts: z
    .record(
      Name,
      z.strictObject({
        deployment: Name.describe(
          'Deployment of this system: its directory is the plain checkout, which becomes a link to a release',
        ),
        leftBehind: z
          .array(z.string().regex(/^[^\0\n!#-][^\0\n]*$/, 'a pattern of .gitignore, without !'))
          .default([])
          .describe(
            'What is no data and no later release needs, as patterns of .gitignore: what a build makes, for one. Whatever else of the checkout is neither in git nor a shared path of the deployment is refused, and named',
          ),
        writable: AbsolutePath.describe('What the units may write from now on; their own list stays'),
      }),
    )
    .default({})
    .describe('Plain checkouts that become releases'),
  cron: z
    .record(
      Name,
      z.strictObject({
        on: On,
        user: AccountName.describe('Whose crontab'),
        commands: z
          .array(
            z
              .string()
              .min(4)
              .regex(/^[^\n\0]+$/),
          )
          .min(1)
          .describe('A line that holds one of these texts is turned into a comment; no line is ever removed'),
        replacedBy: z.array(Name).default([]).describe('Schedules of this system that do it from now on'),
        meanwhile: z
          .string()
          .min(1)
          .optional()
          .describe(
            'For lines that the move of the data would break: how a person does it while guardia has no runbook for one of these schedules; the lines end all the same, and the plan says this. Without it they stay in force until the runbook is there',
          ),
      }),
    )
    .default({})
    .describe('Lines of crontabs that runbooks replace'),
});
export type Adoption = z.infer<typeof Adoption>;

export const AdoptInput = z.strictObject({
  ...runInput,
  host: Name.optional().describe('One host, or a group of hosts; by default every host that the inventory adopts'),
  back: z
    .boolean()
    .default(false)
    .describe(
      'The way back: the current release becomes a plain checkout again, with its data in it, and the cron lines are in force',
    ),
});
export type AdoptInput = z.infer<typeof AdoptInput>;

/** What `observeAdoption` sees on one host. */
export interface SeenAdoption {
  checkouts: Record<string, SeenCheckout>;
  /** By name: how many lines are still in force, and how many guardia has turned into comments that nobody has added again since. */
  cron: Record<string, { inForce: number; takenOver: number }>;
  /** Compose projects by the directory that they were started in. */
  projects: { project: string; directory: string }[];
}
export interface SeenCheckout {
  kind: 'absent' | 'checkout' | 'link' | 'other';
  owner: string;
  group: string;
  /** Where the link leads; empty where it is none. */
  link: string;
  /** The commit that is checked out, or empty. */
  commit: string;
  /** Why git tells no commit of a checkout that has a `.git`. */
  gitSays?: string;
  /** Goals that a rename cannot reach, because they are on another file system. */
  elsewhere: string[];
  /** Mount points among what is to be moved: paths in the checkout, `.` for itself. */
  mounts: string[];
  /** What is neither in git nor shared nor left behind, a directory as a whole; `...` as the last one where there is more. */
  unnamed: string[];
  /** By path: what is in the checkout, where it leads if it is a link, and whether its target is free. */
  shared: Record<
    string,
    { inCheckout: 'absent' | 'link' | 'there'; leads?: string; target: 'absent' | 'empty' | 'taken' }
  >;
  releases: 'absent' | 'directory' | 'other';
  writable: 'absent' | 'directory' | 'other';
  /** Which of its units run. */
  running: string[];
  /** `UNIT FILE`: settings of its units that name the new place of the data, other than the drop-in of `adopt`. */
  naming: string[];
}
