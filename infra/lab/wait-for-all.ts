/** Waits for all of them, also when one has failed: nothing may still be at work when the lab is removed. Throws the first error. */
export async function waitForAll(works: Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(works)) if (result.status === 'rejected') throw result.reason;
}
