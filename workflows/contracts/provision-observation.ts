import type { SeenFile } from './files.js';
import type { SettingKind } from './postgresql-setting.js';
import type { SeenUnit } from './units.js';

/** What `observeProvision` sees on one host: everything that provisioning rests on. Holds no secret. */
export interface SeenHost {
  /** Whether the host shares its kernel with others, so that machine-wide settings are not its own to make. */
  container: boolean;
  /** Memory that the host may use, bytes. */
  memoryBytes: number;
  /** Installed versions by package; only of those that were asked for. What another package provides has the version of that one. */
  packages: Record<string, string>;
  /** What was asked for, is not installed, and no package source of the host has, under none of its alternatives. */
  unavailable?: string[];
  accounts: Record<string, SeenAccount>;
  files: Record<string, SeenFile>;
  units: Record<string, SeenUnit>;
  firewall?: SeenFirewall;
  sshd?: SeenSshd;
  secretFiles: Record<string, SeenSecretFile>;
  postgresql?: SeenCluster;
  compose: Record<string, SeenCompose>;
  /** What the kernel says of the settings that were asked for; those that it does not have are missing. */
  kernel?: Record<string, string>;
}

/** A login and the groups that it is in; undefined where there is no such user. */
export interface SeenAccount {
  home: string;
  shell: string;
  groups: string[];
}

export interface SeenFirewall {
  installed: boolean;
  active: boolean;
  /** By default nothing is let in and everything out. */
  closed: boolean;
  /** As `ufw show added` says them, without the word ufw. */
  rules: string[];
  /** The block with the rules for published ports, null where there is none. */
  publishedPorts: { v4: string | null; v6: string | null };
  /** IPv4 networks that the host itself is in, `ADDRESS/LENGTH`; without those of its containers. */
  networks?: string[];
  /** Interfaces that are called like bridges of Docker's networks (`br-...`) and are none. */
  bridges?: string[];
  /** Where the worker's login comes from, and the port that it came to; missing where it is no SSH login. */
  login?: { from: string; port: number };
}

/** Options that are in force for the worker's own login, by keyword in lower case, as `sshd -T` says them. */
export interface SeenSshd {
  installed: boolean;
  options: Record<string, string>;
  /** Options that the drop-in asks for and that would not be in force with it; of `user`, where it is not the worker's own login. */
  overridden?: SshdOverride[];
}

/** What is in force instead, and the place that says so: read before the drop-in, or in a Match block. */
export interface SshdOverride {
  keyword: string;
  value: string;
  place: string;
  user?: string;
}

/** `PermitRootLogin yes for root (/etc/ssh/sshd_config:122)`. Pure. */
export const overrideText = ({ keyword, value, place, user }: SshdOverride): string =>
  `${keyword} ${value}${user === undefined ? '' : ` for ${user}`} (${place === '' ? 'somewhere that it is not clear from its files' : place})`;

/** A file with secrets, compared on the worker with what it should hold. */
export interface SeenSecretFile {
  same: boolean;
  /** Secrets that are nowhere yet and will be made. */
  made: string[];
  /** Keys that hold no secret and whose value on the host is not the one of the template. */
  settings?: string[];
  /** A diff in which every value is masked but those of such keys. */
  diff?: string;
}

/** Names of services and volumes of a compose project. */
export interface SeenCompose {
  defined: string[];
  running: string[];
  volumes: string[];
  /** Images of the containers that run, as their project names them; missing where none runs. */
  images?: string[];
}

export interface SeenCluster {
  running: boolean;
  roles: string[];
  databases: Record<string, { owner: string }>;
  /** Settings whose new value waits for a restart. */
  pendingRestart: string[];
  /** Whether the owner can log in with the password of the inventory. */
  passwordWorks: boolean;
  /**
   * What the server keeps for the owner: no password (or there is no such role), the one of the inventory, the same as MD5, with which a login by
   * SCRAM fails, or another one.
   */
  ownerPassword: 'none' | 'ours' | 'ours, as MD5' | 'other';
  /** What is in force of the settings that were asked for; of a server that does not run, only what must not be lost. */
  settings: Record<string, SeenSetting>;
  /** Of these settings, what the server reads after the file of guardia: it wins. */
  overrides: { name: string; value: string; file: string; line: number }[];
}

/** A setting in force, as `SHOW` says it. */
export interface SeenSetting extends SettingKind {
  value: string;
  /** The file that says so; null for a default. */
  file: string | null;
}

/** Where UFW keeps the rules for ports that containers publish. */
export const DOCKER_BLOCK = { name: 'published ports', comment: '#', at: 'end' } as const;
