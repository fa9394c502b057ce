import { FairShare, type ShareLimits } from "./fair-share.ts";
import { awaitContainer, type IdentityDependencies } from "./identity.ts";
import { type Refusal, type RefusedRequest, refusals } from "./refusals.ts";
import { type RejectionLimits, Rejections } from "./rejections.ts";
import { type StrangerLimits, Strangers } from "./strangers.ts";

/**
 * Which connections are accepted. Both listeners of the process share one, so that a container has one share
 * of connections and of the event loop, whichever listener it uses. Addresses are canonical.
 */
export type Admission = {
  readonly shares: FairShare;
  readonly strangers: Pick<Strangers, "wait">;
  readonly rejections: Rejections;
  /** The key of the share that an address's connections count against; undefined for an unknown address. */
  shareOf(address: string): string | undefined;
  /** Waits until a container has the address. Resolves with the refusal if none gets it; never rejects. */
  awaitContainer(address: string): Promise<Refusal | undefined>;
  /** Records a connection that is rejected before anything was read from it. */
  recordRejection(address: string, refusal: Refusal): void;
};

export type AdmissionLimits = {
  readonly containers: ShareLimits;
  readonly strangers: StrangerLimits;
  readonly rejections: RejectionLimits;
};

export function openAdmission(
  deps: IdentityDependencies & {
    readonly refused: (refused: RefusedRequest) => void;
    readonly now: () => number;
  },
  limits: AdmissionLimits,
): Admission {
  // Before the engines' first lists are in, every address is unknown. Each then has a share of its own, and
  // its requests wait in the handler.
  let isListed = false;
  void deps.listed.then(() => {
    isListed = true;
  });
  return {
    shares: new FairShare(limits.containers),
    strangers: new Strangers(limits.strangers, deps.now),
    rejections: new Rejections(limits.rejections),
    shareOf: (address) => {
      const lookup = deps.directory.at(address);
      // By id, because a container may have several addresses.
      if (lookup.kind === "container") return lookup.container.id;
      return lookup.kind === "conflict" || !isListed ? address : undefined;
    },
    awaitContainer: (address) => awaitContainer(deps, address),
    recordRejection: (address, { code, reason }) => {
      const lookup = deps.directory.at(address);
      const caller = lookup.kind === "container" ? deps.callers.of(lookup.container) : undefined;
      deps.refused({ status: refusals[code].status, code, reason, address, caller, path: "" });
    },
  };
}
