// SPDX-License-Identifier: Apache-2.0
/** The images of a state directory, as the front end has them: it knows which VMs use which. */
import { join } from "node:path";
import type { Images } from "../images/images.js";
import { ImageStore } from "../images/store.js";
import type { ImageLookup } from "./definition/resolve-image.js";
import type { Store } from "./store/store.js";

const directoryOf = (store: Store): string => join(store.directories.state, "images");

/** Files that disks of VMs are, and the VM of each. @throws StoreError where a definition is damaged */
function usedFiles(store: Store): Map<string, string> {
  const used = new Map<string, string>();
  for (const name of store.scan().names) {
    for (const { path, overlay } of store.definition(name).disks) {
      used.set(path, name);
      if (overlay !== undefined) used.set(overlay, name);
    }
  }
  return used;
}

/** Whoever looks at what VMs use has the lock under which VMs are defined; lock order: images', then VMs'. */
export async function openImages(store: Store, waitMs: number): Promise<Images> {
  const { Images } = await import("../images/images.js"); // those who only look names up need none of it
  return new Images({
    directory: directoryOf(store),
    waitMs,
    withUsed: async (work) => {
      await store.prepare();
      using _lock = await store.lockStore({ waitMs });
      return await work(usedFiles(store));
    },
  });
}

export function lookup(store: Store): ImageLookup {
  const images = new ImageStore({ directory: directoryOf(store) });
  return (name) => {
    const record = images.find(name);
    if (record === undefined) return undefined;
    const { format, file, base, sealed } = record;
    if (format !== "overlay") return { path: images.path(file), format, sealed };
    return { path: images.path(base ?? ""), format: "raw", overlay: images.path(file), sealed };
  };
}
