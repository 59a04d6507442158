import type { Lab } from '../../infra/lab/lab.js';
import { DATABASE, HOST, onHost, SYSTEM } from './bench-lab.js';
import { emptyPrefix } from './stored-objects.js';

/** What guardia is compared with: a way to back the same database up from the same host into the same object store. */
export interface Contender {
  /** Where its objects are. */
  prefix: string;
  /** Keys, configuration, an empty repository. Not measured. */
  prepare(lab: Lab, round: number): Promise<void>;
  /** The command, for bash. */
  backup(lab: Lab, round: number): string;
  /** Reads what was stored back, where there is such a command. */
  verify?(lab: Lab, round: number): string;
  /** Removes what the round has left, on the host and in the bucket. Not measured. */
  cleanUp(lab: Lab, round: number): Promise<void>;
}

const asPostgres = 'runuser -u postgres --';
/** As guardia asks for it: the fastest that pg_dump can do. */
const dump = `${asPostgres} pg_dump -Fc -Z0 ${DATABASE}`;

/** What pg_dump alone takes: no backup that is made of it can be faster. */
export const floorCommand = `${dump} >/dev/null`;

const LOCAL_COPIES = '/opt/proofpass/backups/postgres';

/**
 * The manual's own script as it stands, and then the copy into the bucket that a sister manual of the same product prescribes
 * (`aws s3 cp`; the DevOps guide itself leaves that line to be filled in).
 */
export const script: Contender = {
  prefix: `${SYSTEM}/bench-script/`,
  async prepare(lab) {
    const { accessKeyId, secretAccessKey } = hostKey(lab);
    await onHost(
      lab,
      'the settings of the AWS CLI',
      `umask 077; mkdir -p /root/.aws; cat >/root/.aws/credentials; printf '[default]\\nregion = ${lab.s3.region}\\n' >/root/.aws/config`,
      `[default]\naws_access_key_id = ${accessKeyId}\naws_secret_access_key = ${secretAccessKey}\n`,
    );
  },
  backup: (lab) =>
    `/opt/proofpass/scripts/backup-db.sh
     aws s3 cp ${LOCAL_COPIES}/proofpass_*.sql.gz s3://${lab.s3.bucket}/${script.prefix} --endpoint-url ${lab.s3.endpoint} --no-progress`,
  async cleanUp(lab) {
    await onHost(lab, 'removing the local copy', `rm -f ${LOCAL_COPIES}/*`);
    await emptyPrefix(lab.s3, script.prefix);
  },
};

const RESTIC_SETTINGS = '/root/bench-restic.env';
const restic = 'restic --quiet --cache-dir /var/tmp/bench-restic';

/**
 * `restic backup --stdin`, each time into an empty repository: into one that knows the database already it would send next to
 * nothing, because the database does not change between the rounds.
 */
export const resticStdin: Contender = {
  prefix: `bench-restic/`,
  async prepare(lab, round) {
    // The worker's key: restic also reads, lists and removes its locks.
    const { accessKeyId, secretAccessKey } = lab.s3.keys.worker;
    await onHost(
      lab,
      'making the restic repository',
      `umask 077; cat >${RESTIC_SETTINGS}; set -a; . ${RESTIC_SETTINGS}; ${restic} init >/dev/null`,
      [
        `AWS_ACCESS_KEY_ID=${accessKeyId}`,
        `AWS_SECRET_ACCESS_KEY=${secretAccessKey}`,
        `AWS_DEFAULT_REGION=${lab.s3.region}`,
        `RESTIC_REPOSITORY=s3:${lab.s3.endpoint}/${lab.s3.bucket}/${resticStdin.prefix}${round}`,
        'RESTIC_PASSWORD=only-for-this-benchmark',
        '',
      ].join('\n'),
    );
  },
  backup: () => `set -a; . ${RESTIC_SETTINGS}; ${dump} | ${restic} backup --stdin --stdin-filename ${DATABASE}.dump`,
  verify: () => `set -a; . ${RESTIC_SETTINGS}; ${restic} check --read-data`,
  async cleanUp(lab) {
    await onHost(lab, 'removing the cache of restic', `rm -rf /var/tmp/bench-restic ${RESTIC_SETTINGS}`);
    await emptyPrefix(lab.s3, resticStdin.prefix);
  },
};

/**
 * Runs a command on the host as a unit of its own, as guardia's jobs are, and returns how long it took by the host's clock.
 * Seconds. Throws with the end of what it printed.
 */
export async function timed(lab: Lab, what: string, command: string): Promise<number> {
  const unit = `set -euo pipefail; begun=$EPOCHREALTIME; { ${command}
    } >&2; echo "$begun $EPOCHREALTIME"`;
  const said = await onHost(
    lab,
    what,
    `exec systemd-run --quiet --wait --pipe --collect --setenv=HOME=/root -- /bin/bash -c "$(cat)"`,
    unit,
  );
  const [begun, ended] = said.trim().split(' ').map(Number);
  if (begun === undefined || ended === undefined || !(ended > begun)) throw new Error(`${what} printed: ${said}`);
  return ended - begun;
}

function hostKey(lab: Lab) {
  const key = lab.s3.keys.hosts[SYSTEM]?.[HOST];
  if (key === undefined) throw new Error(`the lab made no key for ${HOST} of ${SYSTEM}`);
  return key;
}
