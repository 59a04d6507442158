import { defineSearchAttributeKey } from '@temporalio/common';

/** Name of the runbook: `backup`. */
export const GuardiaRunbook = defineSearchAttributeKey('GuardiaRunbook', 'KEYWORD');
/** Name of the system the run works on: `proofpass`. */
export const GuardiaSystem = defineSearchAttributeKey('GuardiaSystem', 'KEYWORD');
/** The movement the run is in: see `Phase` in run.ts. */
export const GuardiaPhase = defineSearchAttributeKey('GuardiaPhase', 'KEYWORD');
/** Hosts that the plan acts on. */
export const GuardiaHosts = defineSearchAttributeKey('GuardiaHosts', 'KEYWORD_LIST');
/** How the run ended; absent while it is open. */
export const GuardiaEnd = defineSearchAttributeKey('GuardiaEnd', 'KEYWORD');
/** Who started the run. */
export const GuardiaRequester = defineSearchAttributeKey('GuardiaRequester', 'KEYWORD');
/** What an open run waits for: a gate, a lock, a person; absent while it works. */
export const GuardiaWaitingFor = defineSearchAttributeKey('GuardiaWaitingFor', 'KEYWORD');

/**
 * All of them. They must be registered on the namespace before a run starts: `guardia dev` does it on a server that it
 * starts or finds, `infra/temporal/production/` does it on a cluster. The development server takes ten of kind
 * KEYWORD and three of kind KEYWORD_LIST for each namespace.
 */
export const searchAttributes = [
  GuardiaRunbook,
  GuardiaSystem,
  GuardiaPhase,
  GuardiaHosts,
  GuardiaEnd,
  GuardiaRequester,
  GuardiaWaitingFor,
] as const;
