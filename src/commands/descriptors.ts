import { readFile } from "node:fs/promises";
import type { AdmissionLimits } from "../imds/admission.ts";

/** What the process needs for itself at most: engines (32 connections each), STS (64 and more), the metadata service (32), the admin socket, metrics, files. */
const ownDescriptors = 512;
/** On a system with a small limit it is shared in halves instead. */
const leastShare = 0.5;
/** Connections that are kept for a moment after they were told that there is no room. */
const rejections = { total: 1_024, perShare: 256 };
/** Connections of all who are nobody's together, and of one such address: a container that starts this moment opens a few. */
const strangers = { total: 1_024, perAddress: 64 };

/** How many files this process may have open at one time. Node has raised the soft limit to the hard one by now. */
export async function openFilesLimit(): Promise<number> {
  const limits = await readFile("/proc/self/limits", "latin1").catch(() => "");
  const soft = /^Max open files\s+(\d+)/m.exec(limits)?.[1];
  // What every Linux grants.
  return soft === undefined ? 1_024 : Number(soft);
}

/**
 * Who may have how many connections, so that neither containers nor strangers can use up what the engines' and STS's connections need.
 * @param perContainer the configuration's `limits.connections`
 */
export function connectionLimits(perContainer: number, openFiles: number): AdmissionLimits {
  const forClients = Math.max(openFiles - ownDescriptors, Math.floor(openFiles * leastShare));
  // Strangers have an eighth at most: a container that is known always finds room.
  const total = Math.min(strangers.total, Math.floor(forClients / 8));
  const away = Math.min(rejections.total, Math.floor(forClients / 16));
  return {
    containers: { perContainer, total: forClients - total - away },
    strangers: { total, perAddress: Math.min(strangers.perAddress, Math.ceil(total / 4)) },
    rejections: { total: away, perShare: Math.min(rejections.perShare, Math.ceil(away / 4)) },
  };
}
