import { listed } from '../workflows/contracts/names.js';
import { commandLine } from '../activities/hosts/shell-quoting.js';
import { CommandFailure } from './command-failure.js';

/** An argument or option that was not said, where nobody can be asked for it. */
export interface Missing {
  /** `--reason`, `DECISION`. */
  name: string;
  /** What stands for its value in the command line that helps. */
  placeholder: string;
  choices?: readonly string[];
}

/**
 * All that is missing in one `usage`, with the whole command line as remedy: `said` is what was said of it, and stays as it is. An argument
 * comes before the options.
 */
export function missingOptions(missing: readonly Missing[], said: readonly string[]): CommandFailure {
  const names = missing.map(({ name }) => name);
  const several = names.length > 1;
  const words = missing.flatMap(({ name, placeholder }) =>
    name.startsWith('--') ? [name, placeholder] : [placeholder],
  );
  return new CommandFailure('usage', {
    message: `${listed(names)} ${several ? 'are' : 'is'} missing`,
    remedy: [
      commandLine([...said, ...words]),
      ...missing.flatMap(({ placeholder, choices }) =>
        choices === undefined ? [] : [`${placeholder}: ${choices.join(', ') || 'there is none'}`],
      ),
    ].join('\n'),
  });
}
