import type { ProbeResult } from '../../workflows/contracts/probe-result.js';
import type { RunReport } from '../../workflows/contracts/run.js';
import type { BackupLab } from '../backup/harness.js';

/** What a lab host shares with the machine that the tests run on, and says nothing about guardia: it has to be measured, whatever it is. */
const OF_THE_MACHINE = ['disk', 'inodes', 'memory', 'cpu', 'load'];

/** Every probe of the shipped inventory that is not good, by its name and what it found. */
export async function badProbes(here: BackupLab): Promise<string[]> {
  const { report } = await here.run({}, 'health-check');
  const { probes } = ((report as RunReport | undefined)?.result ?? { probes: [] }) as { probes: ProbeResult[] };
  if (probes.length < 40) throw new Error(`a health check of ${probes.length} probes`);
  return probes
    .filter(({ id, state }) => (OF_THE_MACHINE.includes(id.split('-')[0] ?? '') ? state === 'unknown' : state !== 'ok'))
    .map(
      ({ id, state, measured, expected, message }) => `${id} is ${state}: ${message ?? measured}, expected ${expected}`,
    );
}
