import type { Config } from "../config/schema.ts";
import { type Container, staticContainer } from "../containers/container.ts";

/** The containers that `staticContainers` declares. */
export function staticsOf(config: Config): readonly Container[] {
  return Object.entries(config.staticContainers).map(([address, { name, alias }]) =>
    staticContainer(address, { name, ...(alias !== undefined && { alias }) }),
  );
}
