import { createHash } from 'node:crypto';
import { existsSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { failure } from '../../workflows/contracts/errors.js';
import { runbooks } from '../../workflows/contracts/runbooks.js';
import { SystemName } from '../../workflows/contracts/names.js';
import { machineOf } from '../../workflows/contracts/system-rules.js';
import { System } from '../../workflows/contracts/system.js';
import { isUnset, unsetNeeded } from '../../workflows/contracts/unset.js';
import { canonicalJson } from './canonical-json.js';
import { closestName } from './closest-name.js';
import { inventoryLocations, type InventoryLocations } from './locations.js';
import { inLayout, layoutsOf } from './layout.js';
import { layOver, OVERLAY_MAY_HOLD } from './overlay.js';
import { mistakesOf, problemLine, valueAt, type Mistake, type Problem } from './problems.js';
import { readSourceFile, type Path, type SourceFile } from './source-file.js';

export interface LoadedSystem {
  system: System;
  /** SHA-256, in hex, of the canonical JSON of the system with its overlay and defaults: what a plan was made from. */
  digest: string;
}

/** The names of the systems in a directory, sorted. Throws `InvalidInventory` when there is no such directory. */
export function listSystems({ systemsDirectory }: InventoryLocations = inventoryLocations()): string[] {
  return yamlFiles(systemsDirectory, 'GUARDIA_SYSTEMS')
    .map((file) => path.basename(file, '.yaml'))
    .sort();
}

/** The inventory as its files are now. */
export interface Inventory {
  names: string[];
  /**
   * One system with its overlay. Values may still be unset: a run refuses those that it needs (refuseUnset).
   * Throws `UnknownSystem` with the names that exist, or `InvalidInventory` with every mistake, its file and line.
   */
  load: (name: string) => LoadedSystem;
}

/** Reads the inventory once. Throws `InvalidInventory` when a directory is not there; other mistakes come with their system. */
export function readInventory(locations: InventoryLocations = inventoryLocations()): Inventory {
  const names = listSystems(locations);
  let readings: Reading[] | undefined;
  return {
    names,
    load(name) {
      if (!names.includes(name)) {
        const meant = closestName(name, names);
        throw failure(
          'UnknownSystem',
          `there is no system ${JSON.stringify(name)}${meant ? `; did you mean "${meant}"?` : ''}`,
          { remedy: `Systems: ${names.join(', ')} (in ${locations.systemsDirectory})` },
        );
      }
      readings ??= names.map((each) => readSystem(each, locations));
      return loaded(name, readings);
    },
  };
}

/** One system of the inventory: `readInventory(locations).load(name)`. */
export function loadSystem(name: string, locations: InventoryLocations = inventoryLocations()): LoadedSystem {
  return readInventory(locations).load(name);
}

function loaded(name: string, readings: readonly Reading[]): LoadedSystem {
  const reading = readings.find(({ name: each }) => each === name);
  const errors = [...(reading?.problems ?? []), ...sharedMachines(readings, [name])]
    .filter(({ severity }) => severity === 'error')
    .sort(byPlace);
  if (!reading?.system || errors.length > 0) {
    throw failure(
      'InvalidInventory',
      `system ${name} has ${errors.length} mistake${errors.length === 1 ? '' : 's'}:\n${errors.map(problemLine).join('\n')}`,
    );
  }
  return { system: reading.system, digest: createHash('sha256').update(canonicalJson(reading.system)).digest('hex') };
}

/**
 * Every mistake and every unset value of the inventory in one go, by file and line; `only` limits the answer to one system.
 * Throws `InvalidInventory` when a directory is not there, `UnknownSystem` when `only` is not.
 */
export function checkSystems(options: Partial<InventoryLocations> & { only?: string | undefined } = {}): Problem[] {
  const locations = { ...inventoryLocations(), ...options };
  const { names, load } = readInventory(locations);
  if (options.only !== undefined && !names.includes(options.only)) load(options.only);
  const readings = names.map((name) => readSystem(name, locations));
  const asked = options.only === undefined ? names : [options.only];
  const problems = readings
    .filter(({ name }) => asked.includes(name))
    .flatMap((reading) => [...reading.problems, ...reading.otherLayouts]);
  problems.push(...sharedMachines(readings, asked));
  if (options.only === undefined) problems.push(...misplacedFiles(names, locations));
  return problems.sort(byPlace);
}

const byPlace = (a: Problem, b: Problem) =>
  a.file < b.file ? -1 : a.file > b.file ? 1 : a.line - b.line || a.column - b.column;

interface Reading {
  name: string;
  /** Undefined when the files have mistakes. */
  system?: System;
  /** What the files say together, right or wrong. */
  value: unknown;
  problems: Problem[];
  /** Mistakes in layouts that are not in force: told by a check, and no run is held up for them. */
  otherLayouts: Problem[];
  place(at: Path): { file: string; line: number; column: number };
}

function readSystem(name: string, { systemsDirectory, overlayDirectory }: InventoryLocations): Reading {
  const file = readSourceFile(path.join(systemsDirectory, `${name}.yaml`));
  const overlayFile = overlayDirectory ? path.join(overlayDirectory, `${name}.yaml`) : undefined;
  if (overlayDirectory) yamlFiles(overlayDirectory, 'GUARDIA_OVERLAY');
  const overlay = overlayFile && existsSync(overlayFile) ? readSourceFile(overlayFile) : undefined;
  const chosen = valueAt(overlay?.value, ['layout']) ?? valueAt(file.value, ['layout']);
  const layout = typeof chosen === 'string' ? chosen : undefined;
  const shipped = inLayout(file, layout);

  const problems: Problem[] = [shipped, overlay].flatMap((source) =>
    (source?.mistakes ?? []).map((mistake): Problem => ({
      file: source?.file ?? '',
      path: '',
      severity: 'error',
      ...mistake,
    })),
  );
  const place = (at: Path) => placeIn(shipped, overlay, at);
  if (shipped.value === undefined) return { name, value: undefined, problems, otherLayouts: [], place };

  const { merged, refused } = overlay?.value
    ? layOver(shipped.value, overlay.value)
    : { merged: shipped.value, refused: [] };
  for (const at of refused) {
    const { line, column } = (overlay ?? shipped).locate(at);
    const unknown = valueAt(shipped.value, at) === undefined;
    const message = unknown
      ? 'the shipped file has nothing here that an overlay could fill'
      : 'an overlay may not change this';
    problems.push({
      file: (overlay ?? shipped).file,
      line,
      column,
      path: at.join('.'),
      message,
      allowed: OVERLAY_MAY_HOLD,
      severity: 'error',
    });
  }

  const layouts = Object.keys(layoutsOf(file.value));
  if (layout !== undefined && !layouts.includes(layout))
    problems.push({
      ...place(['layout']),
      path: 'layout',
      message: `there is no layout "${layout}"`,
      allowed: layouts.join(', ') || 'no layout: leave it out',
      severity: 'error',
    });
  const parsed = System.safeParse(merged);
  for (const { path: at, ...rest } of parsed.success ? [] : mistakesOf(parsed.error, merged))
    problems.push({ ...place(at), path: at.join('.'), ...rest, severity: 'error' });
  const own = valueAt(merged, ['system']);
  if (typeof own === 'string' && own !== name)
    problems.push({
      ...place(['system']),
      path: 'system',
      message: `is "${own}", but the file is ${name}.yaml`,
      allowed: name,
      severity: 'error',
    });
  if (!SystemName.safeParse(name).success)
    problems.push({
      ...place([]),
      path: '',
      message: `the file name ${name}.yaml is not a system name`,
      allowed: 'lower-case letters, digits and hyphens, at most 40, starting with a letter',
      severity: 'error',
    });

  for (const { path: at, ...rest } of scheduleMistakes(name, merged))
    problems.push({ ...place(at), path: at.join('.'), ...rest, severity: 'error' });

  const wrong = new Set(problems.map((problem) => problem.path));
  for (const unset of unsetNeeded(isObject(merged) ? merged : {})) {
    const at = unset.path.split('.').map((part) => (/^\d+$/.test(part) ? Number(part) : part));
    if (!wrong.has(unset.path))
      problems.push({ ...place(at), path: unset.path, message: unset.text, severity: 'unset' });
  }
  const valid = parsed.success && problems.every(({ severity }) => severity === 'unset');
  const otherLayouts = mistakesOfOtherLayouts(file, layouts, layout);
  return { name, value: merged, problems, otherLayouts, place, ...(valid ? { system: parsed.data } : {}) };
}

/** What is wrong with the layouts that are not in force, each as it would be read without an overlay. */
function mistakesOfOtherLayouts(file: SourceFile, layouts: readonly string[], chosen: string | undefined): Problem[] {
  return layouts
    .filter((name) => name !== chosen)
    .flatMap((name) => {
      const source = inLayout(file, name);
      const parsed = System.safeParse(source.value);
      return (parsed.success ? [] : mistakesOf(parsed.error, source.value)).map(({ path: at, message, ...rest }) => {
        const { line, column } = source.locate(at);
        const text = `in layout ${name}: ${message}`;
        return {
          file: file.file,
          line,
          column,
          path: at.join('.'),
          message: text,
          ...rest,
          severity: 'error' as const,
        };
      });
    });
}

/** What a schedule hands to its runbook has to be an input of that runbook, as far as the runbook exists. */
function scheduleMistakes(system: string, value: unknown): Mistake[] {
  const schedules = valueAt(value, ['schedules']);
  return Object.entries(isObject(schedules) ? schedules : {}).flatMap(([name, schedule]): Mistake[] => {
    const { runbook, input = {} } = isObject(schedule) ? schedule : {};
    if (typeof runbook !== 'string' || !Object.hasOwn(runbooks, runbook) || !isObject(input)) return [];
    const at = ['schedules', name, 'input'];
    const schema = runbooks[runbook as keyof typeof runbooks].input;
    const fields = Object.keys(schema.shape).filter((field) => field !== 'system');
    if ('system' in input)
      return [
        {
          path: [...at, 'system'],
          message: 'is given by the schedule itself; leave it out',
          allowed: fields.join(', '),
        },
      ];
    const parsed = schema.safeParse({ system, ...input });
    return (parsed.error?.issues ?? []).flatMap((issue): Mistake[] => {
      const under = [...at, ...issue.path.map((part) => (typeof part === 'symbol' ? String(part) : part))];
      if (issue.code !== 'unrecognized_keys')
        return [{ path: under, message: `does not suit runbook ${runbook}: ${issue.message}` }];
      return issue.keys.map((key) => {
        const meant = closestName(key, fields);
        return {
          path: [...under, key],
          message: `runbook ${runbook} takes no "${key}"${meant ? `; did you mean "${meant}"?` : ''}`,
          allowed: fields.join(', '),
        };
      });
    });
  });
}

/** The file that says more about the path: the overlay where it holds the value, the shipped file otherwise. */
function placeIn(
  shipped: SourceFile,
  overlay: SourceFile | undefined,
  at: Path,
): { file: string; line: number; column: number } {
  const base = shipped.locate(at);
  const over = overlay?.locate(at);
  const laid = over !== undefined && (over.depth === at.length ? at.length > 0 : over.depth > base.depth);
  const { line, column } = laid ? over : base;
  return { file: laid && overlay ? overlay.file : shipped.file, line, column };
}

/** Two systems never share a machine: their runs would not see each other's lock. */
function sharedMachines(readings: readonly Reading[], asked: readonly string[]): Problem[] {
  const owners = new Map<string, { reading: Reading; host: string }>();
  const problems: Problem[] = [];
  for (const reading of readings) {
    const hosts = valueAt(reading.value, ['hosts']);
    if (!isObject(hosts)) continue;
    for (const host of Object.keys(hosts)) {
      const machine = machineOf(valueAt(hosts, [host, 'connection']), hosts);
      const owner = machine === undefined ? undefined : owners.get(machine);
      if (machine !== undefined && !owner) owners.set(machine, { reading, host });
      if (!owner || owner.reading === reading) continue;
      const [here, there] = asked.includes(reading.name) ? [{ reading, host }, owner] : [owner, { reading, host }];
      if (!asked.includes(here.reading.name)) continue;
      const address = ['hosts', here.host, 'connection', 'address'];
      const at = isUnset(valueAt(here.reading.value, address)) || machine === 'local' ? address.slice(0, 3) : address;
      problems.push({
        ...here.reading.place(at),
        path: at.join('.'),
        message: `is the machine of host "${there.host}" of system "${there.reading.name}" (${machine}); two systems never share a machine`,
        severity: 'error',
      });
    }
  }
  return problems;
}

/** Files that look as if they belonged to the inventory, but are not read. */
function misplacedFiles(
  names: readonly string[],
  { systemsDirectory, overlayDirectory }: InventoryLocations,
): Problem[] {
  const problems: Problem[] = [];
  const add = (file: string, message: string) =>
    problems.push({ file, line: 1, column: 1, path: '', message, severity: 'error' });
  for (const directory of overlayDirectory ? [systemsDirectory, overlayDirectory] : [systemsDirectory]) {
    for (const entry of readdirSync(directory).sort()) {
      const file = path.join(directory, entry);
      const name = path.basename(entry, path.extname(entry));
      if (entry.endsWith('.yml')) add(file, `is not read; rename it to ${name}.yaml`);
      else if (directory === overlayDirectory && entry.endsWith('.yaml') && !names.includes(name)) {
        const meant = closestName(name, names);
        add(file, `lies over no system${meant ? `; did you mean ${meant}.yaml?` : ''}`);
      }
    }
  }
  return problems;
}

function yamlFiles(directory: string, setting: string): string[] {
  if (!existsSync(directory) || !statSync(directory).isDirectory())
    throw failure('InvalidInventory', `there is no directory ${directory}`, {
      remedy: `Set ${setting} to the directory that holds NAME.yaml files`,
    });
  return readdirSync(directory).filter((entry) => entry.endsWith('.yaml'));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
