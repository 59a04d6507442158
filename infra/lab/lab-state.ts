import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { ToolboxError } from '../packaging/toolbox.js';
import { isRunning, type ProcessIdentity } from '../../activities/temporal/process-identity.js';

/** Names of labs, hosts and snapshots. */
export const NAME = /^[a-z][a-z0-9-]{0,39}$/;

/** What is known of one host of a lab. */
export interface HostState {
  name: string;
  /** Name of the machine for systemd-nspawn; its network card on the bridge is `vb-` and this. */
  machine: string;
  address: string;
  /** Layers below the host's own writes, the first one on top. */
  layers: string[];
  /** `ssh-ed25519 AAAA...` */
  hostKeys: string[];
  supervisor?: ProcessIdentity;
  cut: boolean;
  /** Rate that its network is limited to, as tc spells it. */
  rate?: string;
}

/** Of `lab.json`. A lab of another version of guardia is left alone: what is recorded of it may mean something else. */
const FORMAT = 2;

/** One lab, as recorded in `lab.json`: written before the act, so that whatever exists can be found and removed. */
export interface LabState {
  format: typeof FORMAT;
  name: string;
  /** 1 to 254: its subnet is 10.77.INDEX.0/24, and its names carry it. */
  index: number;
  createdAt: string;
  /** The process that the lab ends with; a lab made by the command has one only until it is ready. */
  owner?: ProcessIdentity;
  systems: string[];
  /** Layout of the systems that their overlays choose. */
  layout?: string;
  hosts: HostState[];
  services: Record<string, ProcessIdentity>;
}

/** Directory of all labs: GUARDIA_LAB_DIR, else /var/lib/guardia-lab. */
export function labsDirectory(): string {
  const chosen = process.env['GUARDIA_LAB_DIR'];
  return chosen === undefined || chosen === '' ? '/var/lib/guardia-lab' : path.resolve(chosen);
}

export const directoryOf = (name: string): string => path.join(labsDirectory(), name);
export const secretsDirectory = (state: LabState): string => path.join(directoryOf(state.name), 'secrets');
export const groupOf = (index: number): string => `g${index}`;
export const hostGroupOf = (index: number, host: HostState): string => `${groupOf(index)}/${host.machine}`;

export function writeState(state: LabState): void {
  const file = path.join(directoryOf(state.name), 'lab.json');
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
  const temporary = `${file}.${process.pid}`;
  writeFileSync(temporary, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  renameSync(temporary, file);
}

/** Records one host, leaving what else was recorded meanwhile as it is; nothing when the lab is gone. */
export function writeHost(state: LabState, host: HostState): void {
  const current = readState(state.name);
  if (current?.createdAt !== state.createdAt) return;
  writeState({ ...current, hosts: current.hosts.map((one) => (one.name === host.name ? host : one)) });
}

export function readState(name: string): LabState | undefined {
  const file = path.join(directoryOf(name), 'lab.json');
  if (!existsSync(file)) return undefined;
  return JSON.parse(readFileSync(file, 'utf8')) as LabState;
}

/** Every lab of this machine, whether it runs or is what a killed process left. */
export function allLabs(): LabState[] {
  if (!existsSync(labsDirectory())) return [];
  return readdirSync(labsDirectory(), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap((entry) => readState(entry.name) ?? [])
    .sort((a, b) => a.index - b.index);
}

/** A lab whose owner is dead. */
export function isStale(state: LabState): boolean {
  return state.format === FORMAT && state.owner !== undefined && !isRunning(state.owner);
}

export function hostState(state: LabState, host: string): HostState {
  const found = state.hosts.find((candidate) => candidate.name === host);
  if (found === undefined) {
    throw new ToolboxError(
      `the lab ${state.name} has no host ${host}; its hosts: ${state.hosts.map((one) => one.name).join(', ')}`,
    );
  }
  return found;
}
