// What one can ask of a lab, and what one gets.
import type { Fixture } from './fixture-layers.js';
import type { Output } from './host-access.js';
import type { Received } from './notices-server.js';
import type { LabS3 } from './s3-server.js';

/** A host that a lab shall have. */
export interface HostSpec {
  /** As the inventory names it. */
  name: string;
  fixture?: Fixture;
  /** True: only what every Debian host has is on it; what a runbook needs, it installs from the host's package source. */
  bare?: boolean;
  /** True: the images of container-images.ts are in its Docker; a bare host and a running fixture have them anyway. */
  images?: boolean;
  /** A host of keptHosts: the directory. Only that it is bare may be said beside it. */
  kept?: string;
  /** Units that start with the host beside sshd, such as `docker.service`; a fixture enables its own. */
  enable?: string[];
}

/** A lab that is to be made. */
export interface LabRequest {
  /** Lower-case letters, digits and hyphens; drawn when missing. */
  name?: string;
  hosts: HostSpec[];
  /** Systems that the hosts belong to: an inventory overlay and keys are made for each. */
  systems: string[];
  /** Layout that the systems' overlays choose: `scaled` with the hosts balancer, app1, app2 and db. */
  layout?: string;
  /** True: the lab ends with this process; what a killed one leaves is removed by the next start of any lab. */
  owner: boolean;
}

/** How to reach a host. */
export interface LabHost {
  name: string;
  address: string;
  port: 22;
  user: 'guardia';
  identityFile: string;
  /** `ssh-ed25519 AAAA...` */
  hostKeys: string[];
}

export interface Lab {
  name: string;
  /** Everything of this lab on disk. */
  directory: string;
  hosts: Record<string, LabHost>;
  s3: LabS3;
  overlayDirectory: string;
  secretsDirectory: string;
  /** What a worker or the command needs in its environment to look after this lab. */
  environment: Record<'GUARDIA_OVERLAY' | 'GUARDIA_SECRETS' | 'NODE_EXTRA_CA_CERTS', string>;
  /** File with the certificate of the lab's authority, PEM; `NODE_EXTRA_CA_CERTS` and the secret `file:tls/ca.crt` are the same. */
  ca: string;
  /** ProofPass's repository: `url` for the hosts, the same in every lab, and `local` for this machine. In labs of that system. */
  git?: { url: string; local: string };
  /** Who is told, in labs of ProofPass: `url` takes webhooks of any path, beside the mail server; `received` is what came to both, oldest first. */
  notices: { url: string; received(): Received[] };
  /** Runs a command on the host as `guardia` over SSH. Never throws for an exit code; 255 means that SSH itself failed. */
  ssh(host: string, argv: readonly string[], options?: { stdin?: string | Buffer }): Promise<Output>;
  /** Runs a command on the host as root, past its network: for looking at what a host cannot tell. */
  exec(host: string, argv: readonly string[], options?: { stdin?: string | Buffer }): Promise<Output>;
  /** Takes the host off the network. Idempotent, kept over a reboot. */
  cut(host: string): Promise<void>;
  /** Undoes cut and slow. Idempotent. */
  heal(host: string): Promise<void>;
  /** Limits the host's network, both ways, to a rate as `tc` spells it: `10mbit`, `500kbit`. */
  slow(host: string, rate: string): Promise<void>;
  /** A power cut: everything on the host is gone at once, its disk stays as it is. Idempotent. */
  poweroff(host: string): Promise<void>;
  /** Boots the host and waits until it takes logins. Idempotent. */
  poweron(host: string): Promise<void>;
  /** An orderly reboot, as `systemctl reboot` on the host; waits until it takes logins again. */
  reboot(host: string): Promise<void>;
  /**
   * Puts the lab's certificates on the host, where nginx and HAProxy read them: `/etc/letsencrypt/live/NAME/` and, chain and key in one file,
   * `/etc/haproxy/certs/NAME.pem`. Idempotent.
   */
  certificates(host: string): Promise<void>;
  /**
   * Starts OpenBao in Docker on the host, initialised, unsealed and seeded with what ProofPass reads; it is unsealed again after each boot.
   * The application's token is the secret `openbao/HOST.token`, and goes into each `.env` of the application that there is on the lab's hosts:
   * call it again when one was written. Idempotent.
   * @param listen address on the host, by default 127.0.0.1
   */
  openbao(host: string, listen?: string): Promise<void>;
  /** Saves hosts and servers under a name; they are stopped for it and started again. */
  snapshot(name: string): Promise<void>;
  /** Puts hosts and servers back to a snapshot. */
  restore(name: string): Promise<void>;
  /** Removes the lab: processes, mounts, network, rules and files. Idempotent. */
  down(): Promise<void>;
}
