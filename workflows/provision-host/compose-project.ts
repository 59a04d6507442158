import type { Step } from '../contracts/plan.js';
import type { Program } from '../contracts/provision.js';
import { call, idPart } from '../steps/call.js';
import { awayWithProject } from './downtime.js';
import { PACKAGE_SECONDS, type Work } from './work.js';

/** How long the services of a compose project are away while they are made anew: Docker gives each 10 s to end, and they start together. Seconds. */
const RECREATE_SECONDS = 20;

type Compose = NonNullable<Program['compose']>;

/** A compose project: its files, then its start; nothing where both are as wanted. */
export function composed(work: Work, name: string, title: string, project: Compose, files: Step[]): Step[] {
  const { system, part, now, notes, downtime } = work;
  const seen = now.compose[project.project];
  const runs = seen !== undefined && seen.defined.length > 0 && seen.defined.every((one) => seen.running.includes(one));
  // Docker looks at its own file only: what else changed is read by containers that are made anew.
  const recreate = files.length > 0 || writesSecretsOf(work, project);
  if (!recreate && runs) return [];
  const again = recreate && seen !== undefined && seen.running.length > 0;
  if (again) downtime.push(...awayWithProject(system, part.host, project.project, RECREATE_SECONDS, name));
  const content = files.find(
    ({ do: { with: argument } }) => argument['path'] === `${project.directory}/${project.file}`,
  )?.do.with['content'];
  const others =
    seen === undefined || seen.volumes.length === 0
      ? []
      : otherImages(seen.images ?? [], typeof content === 'string' ? content : '');
  if (others.length > 0)
    notes.push(
      `${part.host}: ${project.project} has data in ${seen?.volumes.join(', ')}, and gets ${others.join(', ')}. A program may not read what a newer one has written: look which versions run, and name those or newer ones in the inventory.`,
    );
  const id = idPart(name);
  return [
    ...(isNotedEarly(work, project) ? [] : [noted(name, project)]),
    ...files,
    {
      id: `check-${id}`,
      title: 'have docker compose judge its configuration',
      why: 'what is wrong is found before it is put to use',
      do: call('checkConfiguration', { kind: 'compose', paths: [`${project.directory}/${project.file}`] }),
      undo: { none: 'it only looks' },
    },
    {
      id: `start-${id}`,
      title: again ? `start ${project.project} anew, so that it reads its files` : `start ${project.project}`,
      why: `${title}: under its pinned project name, so that its volumes stay its own`,
      do: call('startCompose', { ...project, recreate, timeoutSeconds: PACKAGE_SECONDS }),
      undo: call('stopMadeCompose', project),
      attempts: 2,
      runAgainIfLost: true,
    },
  ];
}

/** Images that run and that a compose file names with another tag or digest: `A in place of B`. Pure. */
function otherImages(running: readonly string[], text: string): string[] {
  const repository = (image: string): string => image.replace(/@.*$/, '').replace(/:[^/:]*$/, '');
  const wanted = [...text.matchAll(/^\s*image:\s*["']?([^\s"'#]+)/gm)].map(([, image = '']) => image);
  return running.flatMap((image) => {
    const same = wanted.filter((one) => repository(one) === repository(image));
    return same.length === 0 || same.includes(image) ? [] : [`${same[0]} in place of ${image}`];
  });
}

export function noted(name: string, project: Compose): Step {
  return {
    id: `note-${idPart(name)}`,
    title: `note what of ${project.project} runs`,
    why: 'if this run is undone, it is started again with its old files once they are back',
    do: call('noteCompose', project),
    undo: call('reapplyCompose', project),
  };
}

/** What a compose project reads is below its directory. */
export const isBelow = (path: string, { directory }: Compose): boolean => path.startsWith(`${directory}/`);

/** Whether this run writes files with secrets that the project reads. */
export function writesSecretsOf({ part, now }: Work, project: Compose): boolean {
  return part.secretFiles.some(([, { path }]) => isBelow(path, project) && !now.secretFiles[path]?.same);
}

/** What runs is noted before its files with secrets are written: on the way back it is started again after these are back, too. */
export function isNotedEarly(work: Work, project: Compose): boolean {
  return writesSecretsOf(work, project) && (work.now.compose[project.project]?.running.length ?? 0) > 0;
}
