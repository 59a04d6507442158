// Prints the JSON Schema of a system file, for editors. `infra/systems/README.md` says how to renew the one that is shipped.
import { pathToFileURL } from 'node:url';
import { systemJsonSchema } from './problems.js';

/** The content of `infra/systems/system.schema.json`. */
export function jsonSchemaOfSystem(): object {
  return { ...systemJsonSchema, title: 'A system of the guardia inventory' };
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href)
  process.stdout.write(`${JSON.stringify(jsonSchemaOfSystem(), null, 2)}\n`);
