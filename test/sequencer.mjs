import { createRequire } from 'node:module';

const { default: Sequencer } = createRequire(import.meta.url)('@jest/test-sequencer');

/** The files that take longest, whatever their size: begun first, so that no lane works alone at the end. `npm test` prints how long each took. */
const LONGEST = [
  'provision/provision-host',
  'faults/steps',
  'deploy/two-hosts',
  'provision/host-changes',
  'deploy/one-host',
  'backup/failures',
  'repair/people',
  'activities/hosts/ssh',
  'client/command-line',
  'lab/proofpass',
  'activities/migrations/migrations',
];

/** Jest's own order, which is by size on a machine that has not run them yet, behind the longest ones. */
export default class LongestFirst extends Sequencer {
  sort(tests) {
    const rank = ({ path }) => {
      const at = LONGEST.findIndex((name) => path.endsWith(`/test/${name}.test.ts`));
      return at < 0 ? LONGEST.length : at;
    };
    return super.sort(tests).sort((one, other) => rank(one) - rank(other));
  }
}
