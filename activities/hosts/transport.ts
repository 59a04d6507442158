/** How a command line reaches a host: over SSH or as a child process of this machine. */
export interface Transport {
  /**
   * Runs one POSIX shell command line and streams what it prints. Resolves when it ended, whatever its exit code.
   * Rejects with `HostUnreachable` when the connection is lost before that: whether the command ran is then unknown.
   */
  execute(commandLine: string, options: ExecuteOptions): Promise<Exit>;
}

export interface ExecuteOptions {
  stdin?: Uint8Array | undefined;
  signal?: AbortSignal | undefined;
  onStdout?: ((chunk: Buffer) => void) | undefined;
  onStderr?: ((chunk: Buffer) => void) | undefined;
  /** Opens a connection for this command alone: proves that the host can still be reached. */
  newConnection?: boolean | undefined;
}

/** How a command ended: its exit code, or the signal that ended it. */
export interface Exit {
  code: number | null;
  signal: string | null;
}
