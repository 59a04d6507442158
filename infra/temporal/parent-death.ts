import { existsSync } from 'node:fs';

/** Part of util-linux, which every Debian has; `--pdeathsig` is prctl(PR_SET_PDEATHSIG), which outlives the execve that follows it. */
const SETPRIV = '/usr/bin/setpriv';

/**
 * The command that runs `file` so that the kernel sends it SIGTERM when the process that starts it ends, however that happens: a
 * process killed with SIGKILL cannot stop its children itself. The process number is that of `file`. Where the machine has no setpriv
 * (not a Linux), the command is `file` itself, and what a killed parent leaves is stopped by the next start.
 */
export function endsWithParent(file: string, argv: readonly string[]): [file: string, argv: string[]] {
  return existsSync(SETPRIV) && existsSync(file)
    ? [SETPRIV, ['--pdeathsig', 'TERM', '--', file, ...argv]]
    : [file, [...argv]];
}
