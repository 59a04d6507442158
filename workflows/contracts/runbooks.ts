import type { z } from 'zod';
import { BackupInput } from './backup.js';

export interface Runbook {
  /** Workflow type, and the name in the command. */
  name: string;
  title: string;
  /** The schema of its one input object. */
  input: z.ZodType<{ system: string; plan: boolean; requester: string; reason?: string | undefined }>;
  /** An input to start from, as it is typed into the Web UI. */
  example: { system: string };
  /** Changes nothing: it takes no lock and raises no fence, and its plan may only look. */
  readOnly?: true;
}

/** Every runbook that can be started. */
export const runbooks = {
  backup: {
    name: 'backup',
    title: 'Back up the databases and the configuration, and read the backup back',
    input: BackupInput,
    example: { system: 'proofpass' },
  },
} as const satisfies Record<string, Runbook>;
export type RunbookName = keyof typeof runbooks;
