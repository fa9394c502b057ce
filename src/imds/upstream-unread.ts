import type { ServerResponse } from "node:http";

const perContainer = 4 * 1024 * 1024;
const inAll = 64 * 1024 * 1024;

/** Answers are read from the service whole and at once; what clients have not taken yet is memory of ours, of which a container may hold so much. */
export class Unread {
  readonly #held = new Map<string, number>();
  #total = 0;

  /** Until the response is out, or its client is gone. False: the container holds too much already. */
  hold(container: string, bytes: number, response: ServerResponse): boolean {
    if (!this.mayHold(container, bytes)) return false;
    if (response.destroyed || response.closed) return true;
    this.#add(container, bytes);
    response.once("close", () => this.#add(container, -bytes));
    return true;
  }

  /** However much others hold, there is room for one answer. */
  mayHold(container: string, bytes: number): boolean {
    const held = this.#held.get(container) ?? 0;
    return held === 0 || (held + bytes <= perContainer && this.#total + bytes <= inAll);
  }

  get size(): { readonly containers: number; readonly bytes: number } {
    return { containers: this.#held.size, bytes: this.#total };
  }

  #add(container: string, bytes: number): void {
    const held = (this.#held.get(container) ?? 0) + bytes;
    this.#total += bytes;
    if (held === 0) this.#held.delete(container);
    else this.#held.set(container, held);
  }
}
