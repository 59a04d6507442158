import { describe, expect, test } from '@jest/globals';
import { readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import path from 'node:path';
import ts from 'typescript';
import * as workflows from '../../workflows/index.js';
import { runbooks } from '../../workflows/contracts/runbooks.js';

const root = path.resolve(import.meta.dirname, '../..');

interface Import {
  /** Relative to the root. */
  from: string;
  specifier: string;
  typeOnly: boolean;
  line: number;
}

/** Everything that a source file imports: statements, re-exports, `import()` calls and types. */
function importsOf(file: string, text: string): Import[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
  const found: Import[] = [];
  const add = (specifier: ts.Node | undefined, typeOnly: boolean) => {
    if (specifier === undefined || !ts.isStringLiteralLike(specifier)) return;
    const line = source.getLineAndCharacterOfPosition(specifier.getStart()).line + 1;
    found.push({ from: file, specifier: specifier.text, typeOnly, line });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) {
      const clause = node.importClause;
      const named = clause?.namedBindings;
      // `import { type A, type B }` still loads the module: only `import type` does not.
      add(
        node.moduleSpecifier,
        clause !== undefined &&
          clause.phaseModifier === ts.SyntaxKind.TypeKeyword &&
          (named !== undefined || clause.name !== undefined),
      );
    } else if (ts.isExportDeclaration(node)) add(node.moduleSpecifier, node.isTypeOnly);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node.argument.literal, true);
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword)
      add(node.arguments[0], false);
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

const ROOMS = ['workflows', 'activities', 'workers', 'client', 'infra', 'test'] as const;

function sources(): string[] {
  return ROOMS.flatMap((room) =>
    readdirSync(path.join(root, room), { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.(ts|mjs)$/.test(name) && !name.endsWith('.d.ts'))
      .map((name) => `${room}/${name}`),
  );
}

/** The room of one of our files; the contracts are a room of their own. */
function roomOf(file: string): string {
  return file.startsWith('workflows/contracts/') ? 'contracts' : (file.split('/')[0] ?? '');
}

const SANDBOX_PACKAGES = ['zod', '@temporalio/workflow', '@temporalio/common'];

/** DESIGN: for each room the rooms it may import, those of which it may import types only, and the packages it is limited to. */
const ARROWS: Record<string, { rooms: string[]; typesOf?: string[]; packages?: string[] }> = {
  contracts: { rooms: ['contracts'], packages: SANDBOX_PACKAGES },
  workflows: { rooms: ['contracts', 'workflows'], typesOf: ['activities'], packages: [...SANDBOX_PACKAGES, 'diff'] },
  activities: { rooms: ['contracts', 'activities'] },
  workers: { rooms: ['contracts', 'workflows', 'activities', 'workers'] },
  client: { rooms: ['contracts', 'activities', 'client'] },
  infra: { rooms: ['contracts', 'activities', 'infra'] },
  test: { rooms: ['contracts', ...ROOMS] },
};

/** Why an import is not allowed, undefined when it is. */
function violation({ from, specifier, typeOnly, line }: Import): string | undefined {
  const room = roomOf(from);
  const arrows = ARROWS[room];
  const at = `${from}:${line}`;
  if (arrows === undefined) return `${at}: ${room} is not a room`;
  if (specifier.startsWith('.')) {
    const target = path.posix.join(path.posix.dirname(from), specifier);
    const to = roomOf(target);
    if (arrows.rooms.includes(to) || (typeOnly && arrows.typesOf?.includes(to) === true)) return undefined;
    const types = arrows.typesOf?.includes(to) === true ? ', except by `import type`' : '';
    return `${at}: ${room} must not import ${to}${types} (${specifier})`;
  }
  const name = specifier.replace(/^node:/, '');
  const isBuiltin = specifier.startsWith('node:') || builtinModules.includes(name);
  const packageName = specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
  if (arrows.packages === undefined || (!isBuiltin && arrows.packages.includes(packageName))) return undefined;
  return `${at}: ${room} may import ${arrows.packages.join(', ')} only, not ${specifier}`;
}

describe('arrows between the rooms', () => {
  const imports = sources().flatMap((file) => importsOf(file, readFileSync(path.join(root, file), 'utf8')));

  test('every import of every room is allowed', () => {
    expect(imports.length).toBeGreaterThan(50);
    expect(imports.map(violation).filter((found) => found !== undefined)).toEqual([]);
  });

  test.each([
    ['contracts', `import fs from 'node:fs';`],
    ['contracts', `import { readFile } from 'fs/promises';`],
    ['contracts', `export * from '../lib/saga.js';`],
    ['contracts', `import type { Client } from '@temporalio/client';`],
    ['workflows', `import { run } from '../activities/hosts/hosts.js';`],
    ['workflows', `import { type Run } from '../activities/hosts/hosts.js';`],
    ['workflows', `const x = await import('../workers/main.js');`],
    ['activities', `import '../workflows/lib/saga.js';`],
    ['activities', `import { x } from '../client/main.js';`],
    ['workers', `import { x } from '../infra/temporal/dev.js';`],
    ['client', `import type { X } from '../workers/worker-options.js';`],
    ['client', `type X = import('../infra/temporal/dev.js').X;`],
    ['infra', `export { x } from '../client/main.js';`],
  ])('%s must not say %s', (room, text) => {
    const file = room === 'contracts' ? 'workflows/contracts/trial.ts' : `${room}/trial.ts`;
    expect(importsOf(file, text).map(violation)).toEqual([expect.stringContaining(`${file}:1: ${room} `)]);
  });

  test.each([
    ['workflows/trial.ts', `import type { Run } from '../activities/hosts/hosts.js';`],
    ['workflows/backup/trial.ts', `import { x } from '../contracts/plan.js';`],
    ['workers/trial.ts', `import { planBackup } from '../workflows/backup/plan.js';`],
    ['test/infra/trial.ts', `import { x } from '../../infra/temporal/dev-server.js';`],
  ])('%s may say %s', (file, text) => {
    expect(importsOf(file, text).map(violation)).toEqual([undefined]);
  });

  test('nothing else stands at the top', () => {
    const top = readdirSync(root, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.') && entry.name !== 'node_modules')
      .map((entry) => entry.name);
    expect(top.filter((name) => !(ROOMS as readonly string[]).includes(name))).toEqual([]);
  });
});

describe('what can be started', () => {
  test('workflows/index.ts exports the runbooks of the table and the lock, nothing else', () => {
    expect(Object.keys(workflows).sort()).toEqual([...Object.keys(runbooks), 'lock'].sort());
  });

  test('a runbook has one name', () => {
    for (const [key, runbook] of Object.entries(runbooks)) expect(runbook.name).toBe(key);
  });
});
