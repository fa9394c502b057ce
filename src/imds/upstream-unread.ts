import type { ServerResponse } from "node:http";

const perContainer = 4 * 1024 * 1024;
const allContainers = 64 * 1024 * 1024;

/**
 * Limits the bytes of forwarded answers that clients have not read yet: each answer is read from the service
 * at once and held in memory.
 */
export class Unread {
  readonly #held = new Map<string, number>();
  #total = 0;

  /**
   * Counts the bytes until the response is sent or its client closes. False: the container holds too much
   * already.
   */
  hold(container: string, bytes: number, response: ServerResponse): boolean {
    if (!this.mayHold(container, bytes)) return false;
    if (response.destroyed || response.closed) return true;
    this.#add(container, bytes);
    response.once("close", () => this.#add(container, -bytes));
    return true;
  }

  /** A container that holds nothing may have one answer, however much others hold. */
  mayHold(container: string, bytes: number): boolean {
    const held = this.#held.get(container) ?? 0;
    return held === 0 || (held + bytes <= perContainer && this.#total + bytes <= allContainers);
  }

  #add(container: string, bytes: number): void {
    const held = (this.#held.get(container) ?? 0) + bytes;
    this.#total += bytes;
    if (held === 0) this.#held.delete(container);
    else this.#held.set(container, held);
  }
}
