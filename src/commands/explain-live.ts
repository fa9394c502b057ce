import { canonicalAddress } from "../config/address.ts";
import type { Container } from "../containers/container.ts";
import type { Directory } from "../containers/directory.ts";
import type { EngineState } from "../engine/connection.ts";
import { engineTrouble } from "../engine/trouble.ts";
import {
  type ContainerSources,
  type ContainerStatus,
  containerStatus,
  networkOwner,
} from "./container-status.ts";
import { type Explanation, explanationOf, type Live } from "./explanation.ts";

/** What the proxy answers about the name, id or address of a container. */
export type ExplainAnswer = {
  /** Those that match. Explained if it is one. */
  readonly matches: readonly { readonly id: string; readonly name: string }[];
  readonly explanation: Explanation | null;
  /** Why there may be others: an engine that is not connected, or answers with errors. */
  readonly incomplete: string | null;
};

/** The containers that an operator may mean: by address, exact name or id, or the beginning of an id. */
export function containersNamed(
  directory: Pick<Directory, "at" | "byId">,
  wanted: string,
): readonly Container[] {
  const lookup = directory.at(canonicalAddress(wanted) ?? "");
  if (lookup.kind === "container") return [lookup.container];
  if (lookup.kind === "conflict") return lookup.containers;
  return directory.byId(wanted);
}

export function liveOf(status: ContainerStatus): Live {
  const { state, message, hint, credentials, requests, refusals, lastRefusal } = status;
  return {
    ...{ state, message, hint, requests, refusals, lastRefusal: lastRefusal ?? null },
    credentials:
      credentials === undefined
        ? null
        : {
            state: credentials.state,
            expires: credentials.expires ?? null,
            expiresInSeconds: credentials.expiresInSeconds ?? null,
            refreshedSecondsAgo: credentials.refreshedSecondsAgo ?? null,
            lastError: credentials.lastError ?? null,
          },
  };
}

type EngineOfSources = Pick<EngineState, "host" | "connected" | "lastError">;

/** Why a container that is not found may exist nevertheless; null if every engine names all of its own. */
export function whyNotAll(engines: readonly EngineOfSources[]): string | null {
  for (const engine of engines) {
    const trouble = engineTrouble(engine);
    if (trouble !== undefined) return `${engine.host}: ${trouble}`;
  }
  return null;
}

type Sources = ContainerSources & {
  readonly directory: Pick<Directory, "at" | "byId">;
  readonly configPath: string;
  readonly engines: readonly EngineOfSources[];
};

/** What the running proxy answers to `explain`. */
export function explainAnswer(wanted: string, sources: Sources): ExplainAnswer {
  const { directory, callers, configPath, identityProof, engines } = sources;
  const found = containersNamed(directory, wanted);
  const [container] = found;
  const matches = found.map(({ id, name }) => ({ id, name }));
  const incomplete = whyNotAll(engines);
  if (container === undefined || found.length > 1) return { matches, incomplete, explanation: null };
  const status = containerStatus(container, sources);
  const owner = networkOwner(container, directory);
  const explanation = explanationOf(
    container,
    callers.of(container).decision,
    configPath,
    identityProof,
    status.protection,
    owner && { name: owner.name, decision: callers.of(owner).decision },
    liveOf(status),
  );
  return { matches, incomplete, explanation };
}
