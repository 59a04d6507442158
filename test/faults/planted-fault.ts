/** What a planted failure says of itself. */
export const PLANTED = 'a planted failure';

/** One fault, planted into the worker that runs a step. */
export interface PlantedFault {
  /**
   * `fail`: the step fails after it has done its work. `kill`: the worker dies then. `lose`: the host goes off the network just before. `undo`: the step
   * fails as with `fail`, and the worker dies in the middle of its undo. `pause`: the step waits until there is a file `REACHED-go`, and nothing is wrong.
   */
  kind: 'fail' | 'kill' | 'lose' | 'undo' | 'pause';
  runbook: string;
  /** As its activity is told it. */
  step: string;
  /** Its activity. `runRunbook`: the fault comes in the first change or job of the runbook that is the step. */
  activity: string;
  /** Activity of its undo, where that is to be cut off. */
  undo?: string;
  /** File that is written once the fault is there. */
  reached: string;
}

/** File that ends a pause. */
export const goOnFile = (reached: string): string => `${reached}-go`;
