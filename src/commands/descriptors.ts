import { readFile } from "node:fs/promises";
import type { AdmissionLimits } from "../imds/admission.ts";

/**
 * The most that the process needs for itself: engines (32 connections each), STS (64 and more), the metadata
 * service (32), the admin socket, metrics, files.
 */
const ownDescriptors = 512;
/** The clients' least share of the limit, on a system where the limit is small. */
const leastShare = 0.5;
/** Connections that stay open for a moment after they were refused for lack of room. */
const rejections = { total: 1_024, perShare: 256 };
/**
 * Connections of unknown addresses: all together, and one of them. A container that is just starting opens a
 * few.
 */
const strangers = { total: 1_024, perAddress: 64 };

/** How many files this process may have open. Node raises the soft limit to the hard one when it starts. */
export async function openFilesLimit(): Promise<number> {
  const limits = await readFile("/proc/self/limits", "latin1").catch(() => "");
  const soft = /^Max open files\s+(\d+)/m.exec(limits)?.[1];
  // The default soft limit of Linux.
  return soft === undefined ? 1_024 : Number(soft);
}

/**
 * Divides the descriptors, so that neither containers nor unknown addresses can use up those that the
 * connections to the engines and to STS need.
 * @param perContainer the configuration's `limits.connections`
 */
export function connectionLimits(perContainer: number, openFiles: number): AdmissionLimits {
  const forClients = Math.max(openFiles - ownDescriptors, Math.floor(openFiles * leastShare));
  // At most an eighth for unknown addresses, so that there is always room for a known container.
  const total = Math.min(strangers.total, Math.floor(forClients / 8));
  const away = Math.min(rejections.total, Math.floor(forClients / 16));
  return {
    containers: { perContainer, total: forClients - total - away },
    strangers: { total, perAddress: Math.min(strangers.perAddress, Math.ceil(total / 4)) },
    rejections: { total: away, perShare: Math.min(rejections.perShare, Math.ceil(away / 4)) },
  };
}
