import { z } from 'zod';
import type { CallName } from './calls.js';
import { listed } from './names.js';
import type { Call } from './plan.js';

type Argument = Call['with'];

function text(argument: Argument, field: string): string {
  const value = argument[field];
  return typeof value === 'string' ? value : field;
}

/** What a list in an argument names: services by their names, servers as they stand. */
function names(argument: Argument, field: string): string {
  const list = z.array(z.union([z.string(), z.object({ name: z.string() })])).safeParse(argument[field]);
  if (!list.success) return field;
  return listed(list.data.map((one) => (typeof one === 'string' ? one : one.name)));
}

const asFound = (argument: Argument): string => `put ${text(argument, 'path')} back as it was found`;
const discard = (what: string) => (): string => what;

/** Every call that plans name as an undo, as an operator would say it behind "undo:". */
const words: Partial<Record<CallName, (argument: Argument) => string>> = {
  discardArtifact: discard('remove what was stored of it'),
  withdrawManifest: discard('take the manifest out again: the recovery point counts no more'),

  restoreServices(argument) {
    const services = names(argument, 'services');
    switch (argument['step']) {
      case 'stop':
        return `start what ran before: ${services}`;
      case 'start':
        return `stop ${services}`;
      default:
        return `start what ran before and stop what did not: ${services}`;
    }
  },
  restoreUnit(argument) {
    const unit = text(argument, 'unit');
    if (argument['anew'] === true) return `start ${unit} again`;
    return argument['stopped'] === true
      ? `stop ${unit} again`
      : `put ${unit} back as it was found: enabled or not, running or not`;
  },
  reapplyUnit: (argument) => `${text(argument, 'how')} ${text(argument, 'unit')}, once its old files are back`,
  reapplyCompose: (argument) =>
    `make what of ${text(argument, 'project')} ran before anew, once its old files are back`,
  stopMadeCompose: (argument) => `stop and remove what of ${text(argument, 'project')} did not run before`,

  discardRelease: (argument) => `remove the release ${text(argument, 'id')}`,
  switchBack: (argument) =>
    typeof argument['from'] === 'string'
      ? `let ${text(argument, 'directory')} point to ${argument['from']} again`
      : `remove the link ${text(argument, 'directory')}`,
  revertMigrations: (argument) =>
    'down' in argument
      ? 'take back the migrations that it has applied'
      : 'none for what it has applied: a person is asked; what its transaction has not committed goes back by itself',
  reapplyMigrations: discard('apply them again, without what they held'),
  restoreServers: (argument) =>
    argument['state'] === 'drain'
      ? `let the balancer send requests to ${names(argument, 'servers')} again`
      : `take ${names(argument, 'servers')} out of the balancer again`,

  restorePath: asFound,
  restoreBlock: (argument) =>
    `put the block "${text(argument, 'name')}" in ${text(argument, 'path')} back as it was found`,
  restoreSshd: (argument) => `${asFound(argument)}, and let sshd read it`,
  restoreSysctl: discard('put the values from before in force again'),
  restoreFirewall: discard('put the rules from before in force again'),
  removePackages: discard('remove the packages that it has added'),
  restoreAccount: (argument) =>
    `remove the user ${text(argument, 'name')} if the step has made it, or else take it out of its new groups`,
  restoreRole: (argument) =>
    `remove the role ${text(argument, 'role')} if the step has made it, or else give it its old password back`,
  dropMadeDatabase: (argument) =>
    `remove the database ${text(argument, 'database')} if the step has made it and it is still empty`,

  returnPath: (argument) => `move ${text(argument, 'to')} back to ${text(argument, 'from')}`,
  relocateAgain: (argument) => `move ${text(argument, 'from')} to ${text(argument, 'to')} again, and leave a link`,
  restoreCronLines: (argument) => `put these lines of ${text(argument, 'user')}'s crontab in force again`,
  disableLinesAgain: (argument) => `turn these lines of ${text(argument, 'user')}'s crontab into comments again`,
};

/** An undo in words, with what it acts on. A call that only plans of another version know is named as it is. Pure. */
export const undoText = ({ activity, with: argument }: Call): string =>
  words[activity as CallName]?.(argument) ?? activity;
