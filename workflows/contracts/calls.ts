import { z } from 'zod';
import { HostTarget } from './host-target.js';
import { StepId, type Call } from './plan.js';

/** How a call is run: what it may do, and so its timeouts and retries (workflows/lib/activity-options.ts). */
export type CallKind =
  /** Reads only. */
  | 'observe'
  /** Reads only, for as long as `with.timeoutSeconds` says. */
  | 'watch'
  /** A short idempotent change. */
  | 'change'
  /** A long command as a job on a host: `with.timeoutSeconds` bounds it, dead workers do not count. */
  | 'job'
  /** A whole runbook as a child run, under the locks and fences of this one. */
  | 'runbook';

/** The activities that a plan may call, and the only ones: a plan with another name is refused when it is made. */
export const calls = {
  probeHost: 'watch',
  checkHealth: 'watch',
  watchHealth: 'watch',
  observePostgres: 'observe',
  observeRecoveryPoints: 'observe',
  observeWorker: 'observe',
  removeOrphans: 'change',
  dumpDatabase: 'job',
  dumpGlobals: 'job',
  saveConfiguration: 'job',
  discardArtifact: 'change',
  writeManifest: 'change',
  withdrawManifest: 'change',
  verifyArtifact: 'job',
  writeProof: 'change',
  runRunbook: 'runbook',
  observeLeftRuns: 'observe',
  forgetLeftRun: 'change',
  observeServices: 'observe',
  stopServices: 'change',
  startServices: 'change',
  restartServices: 'change',
  restoreServices: 'change',
  observeRelease: 'observe',
  resolveRef: 'observe',
  resolveArchive: 'observe',
  observeDeploys: 'observe',
  fetchRelease: 'job',
  buildRelease: 'job',
  discardRelease: 'change',
  runInRelease: 'job',
  switchRelease: 'change',
  switchBack: 'change',
  pruneReleases: 'change',
  observeMigrations: 'observe',
  applyMigrations: 'job',
  revertMigrations: 'job',
  takeBackMigrations: 'job',
  reapplyMigrations: 'job',
  countRowsAtStake: 'observe',
  observeBalancer: 'observe',
  setServers: 'change',
  restoreServers: 'change',
  runSmokeTest: 'change',
  observeFiles: 'observe',
  writeFile: 'change',
  makeDirectory: 'change',
  makeSymlink: 'change',
  removePath: 'change',
  restorePath: 'change',
  writeBlock: 'change',
  restoreBlock: 'change',
  observeUnits: 'observe',
  setUnit: 'change',
  restoreUnit: 'change',
  noteUnit: 'change',
  applyUnit: 'change',
  reapplyUnit: 'change',
  observeProvision: 'observe',
  applySysctl: 'change',
  restoreSysctl: 'change',
  checkConfiguration: 'change',
  checkJails: 'observe',
  installPackages: 'job',
  removePackages: 'change',
  makeAccount: 'change',
  restoreAccount: 'change',
  setFirewall: 'change',
  restoreFirewall: 'change',
  setSshd: 'change',
  restoreSshd: 'change',
  writeSecretFile: 'change',
  makeRole: 'change',
  restoreRole: 'change',
  makeDatabase: 'change',
  dropMadeDatabase: 'change',
  checkCluster: 'observe',
  observeAdoption: 'observe',
  relocatePath: 'change',
  returnPath: 'change',
  disableCronLines: 'change',
  restoreCronLines: 'change',
  putBackPath: 'change',
  relocateAgain: 'change',
  enableCronLines: 'change',
  disableLinesAgain: 'change',
  noteCompose: 'change',
  reapplyCompose: 'change',
  startCompose: 'job',
  stopMadeCompose: 'change',
} as const satisfies Record<string, CallKind>;
export type CallName = keyof typeof calls;

export function isCallName(name: string): name is CallName {
  return Object.hasOwn(calls, name);
}

/** What every call is told beside its own argument. */
export const CallContext = z.object({
  system: z.string(),
  runbook: z.string(),
  workflowId: z.string(),
  runId: z.string(),
  step: StepId,
  generation: z.int().describe('Raised only when a step shall really run again'),
  runAgainIfLost: z.boolean(),
  target: HostTarget.optional().describe('The host of the lane'),
  fence: z.int().optional().describe("The run's fence number on that host"),
});
export type CallContext = z.infer<typeof CallContext>;

/** The one argument of every activity that a plan calls. */
export interface CallInput<W = Record<string, unknown>> {
  with: W;
  context: CallContext;
}

/** A read-only call that a planner asks for before it plans; `as` names the answer in the observation. */
export interface ObservationCall {
  as: string;
  /** What the Web UI shows for it. */
  title?: string;
  on: string;
  call: Call;
}

export type Observation = Record<string, unknown>;
