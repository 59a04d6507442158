import type { z } from 'zod';
import { AdoptInput } from './adopt.js';
import { BackupInput } from './backup.js';
import { RepairInput } from './repair.js';
import type { RunInput } from './run.js';
import { DeployInput, RestartServiceInput, RollbackInput } from './deploy.js';
import { HealthCheckInput } from './health-check.js';
import { ProvisionHostInput } from './provision-host.js';

export interface Runbook {
  /** Workflow type, and the name in the command. */
  name: string;
  title: string;
  /** The schema of its one input object. */
  input: z.ZodType<RunInput>;
  /** An input to start from, as it is typed into the Web UI. */
  example: { system: string } & Record<string, unknown>;
  /** Changes nothing: it takes no lock and raises no fence, and its plan may only look. */
  readOnly?: true;
  /** Works although a run that was terminated has left changes on a host; others are refused until somebody has seen to those. */
  afterTerminated?: true;
  /** Fields of the input that pick a part of the system: without them a run is about all of it. */
  picks?: readonly string[];
}

/** Every runbook that can be started. */
export const runbooks = {
  backup: {
    name: 'backup',
    title: 'Back up the databases and the configuration, and read the backup back',
    input: BackupInput,
    example: { system: 'proofpass' },
    afterTerminated: true,
    picks: ['only'],
  },
  repair: {
    name: 'repair',
    title: 'Undo what a run that was terminated has left on the hosts',
    input: RepairInput,
    example: { system: 'proofpass' },
    afterTerminated: true,
  },
  'health-check': {
    name: 'health-check',
    title: 'Look at everything that the manual checks; changes nothing',
    input: HealthCheckInput,
    example: { system: 'proofpass' },
    readOnly: true,
  },
  adopt: {
    name: 'adopt',
    title: 'Take over a host that was set up by hand: releases, shared data, crontabs',
    input: AdoptInput,
    example: { system: 'proofpass' },
    picks: ['host', 'back'],
  },
  'provision-host': {
    name: 'provision-host',
    title: 'Make hosts what the inventory says: packages, firewall, users, files, units',
    input: ProvisionHostInput,
    example: { system: 'proofpass' },
    picks: ['host'],
  },
  deploy: {
    name: 'deploy',
    title: 'Bring a release to its hosts: build, migrate, switch host by host, watch',
    input: DeployInput,
    example: { system: 'proofpass' },
    picks: ['deployment'],
  },
  rollback: {
    name: 'rollback',
    title: 'Go back to the release from before the last deploy',
    input: RollbackInput,
    example: { system: 'proofpass' },
    picks: ['deployment'],
  },
  'restart-service': {
    name: 'restart-service',
    title: 'Restart a service, host after host',
    input: RestartServiceInput,
    example: { system: 'proofpass', service: 'api' },
    picks: ['service'],
  },
} as const satisfies Record<string, Runbook>;
export type RunbookName = keyof typeof runbooks;

/** Whether a run with `input` is about everything that one with `asked` is about: it picks no smaller part. Pure. */
export function isAboutAllOf(
  name: string,
  input: Readonly<Record<string, unknown>>,
  asked: Readonly<Record<string, unknown>>,
): boolean {
  const known: Record<string, Runbook> = runbooks;
  return (known[name]?.picks ?? []).every((field) => input[field] === undefined || input[field] === asked[field]);
}
