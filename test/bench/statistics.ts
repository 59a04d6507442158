import { median } from '../../workflows/contracts/recovery-point.js';

/** What several measurements of one thing come to. */
export interface Summary {
  median: number;
  min: number;
  max: number;
}

/** @throws RangeError for no values at all */
export function summary(values: readonly number[]): Summary {
  const middle = median(values);
  if (middle === undefined) throw new RangeError('there is nothing to sum up');
  return { median: middle, min: Math.min(...values), max: Math.max(...values) };
}

/**
 * The quotients of two measurements of the same round. Machines are slower in one minute than in the next, and a quotient of
 * neighbours feels that less than a quotient of medians does.
 */
export function pairedRatio(over: readonly number[], under: readonly number[]): Summary {
  if (over.length !== under.length)
    throw new RangeError(`${over.length} measurements and ${under.length} are no pairs`);
  return summary(over.map((value, round) => value / (under[round] as number)));
}
