import type { ObservationCall, Observation } from './calls.js';
import type { Plan } from './plan.js';
import type { System } from './system.js';

/** When and for which run a plan is made: ids that later steps need are derived from it. */
export interface PlanningMoment {
  workflowId: string;
  runId: string;
  /** ISO 8601, from the workflow's clock. */
  now: string;
}

/** Texts of files beside the inventory, by the names that `sources` gave. */
export type Sources = Readonly<Record<string, string>>;

/**
 * What a runbook's folder gives to the frame. Pure: no I/O, no clock. It runs inside a local activity, so what it returned
 * is in the history, and a later version of it never changes a run that has its plan.
 */
export interface Planner<I> {
  /** Dotted paths of the inventory that this input needs; a run with an unset one is refused with its name. */
  needs(input: I, system: System): string[];
  /** Files beside the inventory that it reads, relative to the inventory's directory; their texts are handed to it. */
  sources?(input: I, system: System): string[];
  /** What has to be looked at before planning. */
  observe(input: I, system: System, moment: PlanningMoment, sources?: Sources): ObservationCall[];
  plan(input: I, system: System, observation: Observation, moment: PlanningMoment, sources?: Sources): Plan;
  /** The part of the observation that the plan rests on: if it has changed once the lock is held, the plan is made anew. */
  facets(observation: Observation): Record<string, unknown>;
  /** Observations, and the facets of the same names, that are not the hosts': an undo cannot put them back, does not look at them again, and is not judged by them. */
  elsewhere?: readonly string[];
}

export interface PreparedRun {
  system: System;
  /** Of the system and of the sources beside it: another one means that the plan is made anew. */
  systemDigest: string;
  observe: ObservationCall[];
  /** Names of observations that an undo does not answer for. */
  elsewhere?: string[];
}

export interface PlannedRun {
  plan: Plan;
  /** SHA-256 of the canonical JSON of what is approved (approvedPart): a decision of people is about this. */
  digest: string;
  /** The same of the facets. */
  facetsDigest: string;
  /** The same of each facet by its name, to tell what has changed. */
  facets: Record<string, string>;
}
