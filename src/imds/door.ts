import { FairShare, type ShareLimits } from "./fair-share.ts";
import type { Refusal } from "./handler.ts";
import { type IdentityDependencies, wordOf } from "./identity.ts";
import { type StrangerLimits, Strangers } from "./strangers.ts";
import { TurnAway, type TurnAwayLimits, type TurnedAway } from "./turn-away.ts";

/** Who may come in. The servers of the process share one, so that a container has one share, whichever it asks. Addresses are canonical. */
export type Door = {
  readonly fair: FairShare;
  readonly strangers: Pick<Strangers, "wait">;
  readonly turnAway: TurnAway;
  /** By whose share an address's connections count; undefined where it is nobody's, as far as is known. */
  shareOf(address: string): string | undefined;
  /** Settles when an address has become somebody's, or with what to tell it. Never rejects. */
  wordOf(address: string): Promise<TurnedAway | undefined>;
  /** Told of each connection that is turned away before it is read. */
  turnedAway(address: string, refused: TurnedAway): void;
};

export type DoorLimits = {
  readonly containers: ShareLimits;
  readonly strangers: StrangerLimits;
  readonly turnedAway: TurnAwayLimits;
};

export function openDoor(
  the: IdentityDependencies & {
    readonly refused: (refusal: Refusal) => void;
    readonly now: () => number;
  },
  limits: DoorLimits,
): Door {
  // Before the engines' first lists are in, everybody is a stranger: each waits in the handler, with a share by address.
  let isListed = false;
  void the.listed.then(() => {
    isListed = true;
  });
  return {
    fair: new FairShare(limits.containers),
    strangers: new Strangers(limits.strangers, the.now),
    turnAway: new TurnAway(limits.turnedAway),
    shareOf: (address) => {
      const lookup = the.directory.at(address);
      // By its id, not by its address: it may have several.
      if (lookup.kind === "container") return lookup.container.id;
      return lookup.kind === "conflict" || !isListed ? address : undefined;
    },
    wordOf: (address) => wordOf(the, address),
    turnedAway: (address, { status, code, reason }) => {
      const lookup = the.directory.at(address);
      const caller = lookup.kind === "container" ? the.callers.of(lookup.container) : undefined;
      the.refused({ status, code, reason, address, caller, path: "" });
    },
  };
}
