// SPDX-License-Identifier: Apache-2.0
/**
 * Binding of libvmmhpc-unpack.so (vmmhpc_unpack.h). A library of its own, loaded at the first unpacking, so
 * that whoever never unpacks a kernel needs none of the compression libraries.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import koffi from "koffi";
import { LibraryError, VmmError } from "../errors.js";
import * as L from "./layouts.js";
import { type Bound, packageRoot } from "./library.js";
import { vmmError } from "./machine.js";
import { pad, type StructValue, struct, u32, u64 } from "./struct.js";

const RELATIVE = "native/build/release/libvmmhpc-unpack.so";

/** enum vmmhpc_payload. */
export const Payload = {
  UNKNOWN: 0,
  ELF: 1,
  LZ4: 2,
  GZIP: 3,
  XZ: 4,
  ZSTD: 5,
  LZMA: 6,
  BZIP2: 7,
  LZO: 8,
} as const;
export type Payload = (typeof Payload)[keyof typeof Payload];

export const VmmhpcPayloadInfo = struct("vmmhpc_payload_info", {
  size: pad(4, 4),
  format: u32,
  offset: u64,
  packed_bytes: u64,
  bytes: u64,
});
export type PayloadInfo = StructValue<typeof VmmhpcPayloadInfo>;

type Probe = (image: Uint8Array, bytes: bigint, info: Uint8Array, err: Uint8Array) => number;
type Unpack = (
  image: Uint8Array,
  bytes: bigint,
  fd: number,
  maxBytes: bigint,
  info: Uint8Array,
  err: Uint8Array,
) => number;

let loaded: { readonly probe: Bound<Probe>; readonly unpack: Bound<Unpack> } | undefined;

function functions() {
  if (loaded === undefined) {
    const path = process.env.V3M_LIBVMMHPC_UNPACK || join(packageRoot(), RELATIVE);
    if (!existsSync(path)) {
      throw new LibraryError("E_NO_LIBRARY", `libvmmhpc-unpack is not at ${path}`, { hint: "make build" });
    }
    try {
      const library = koffi.load(path);
      loaded = {
        probe: library.func("vmmhpc_unpack_probe", "int32_t", ["void *", "uint64_t", "void *", "void *"]),
        unpack: library.func("vmmhpc_unpack", "int32_t", [
          "void *",
          "uint64_t",
          "int32_t",
          "uint64_t",
          "void *",
          "void *",
        ]),
      };
    } catch (cause) {
      throw new LibraryError("E_NO_LIBRARY", `cannot load ${path}: ${String(cause)}`, {
        hint: "make build; it needs liblz4-1, zlib1g, liblzma5 and libzstd1",
        cause,
      });
    }
  }
  return loaded;
}

function newInfo(): Uint8Array {
  const info = new Uint8Array(VmmhpcPayloadInfo.size);
  new DataView(info.buffer).setUint32(0, info.length, true);
  return info;
}

/** The general hint for E_UNSUPPORTED speaks of the host; here it is the file. */
function unpackError(status: number, err: Uint8Array): VmmError {
  const error = vmmError(status, err);
  if (error.code !== "E_UNSUPPORTED" && error.code !== "E_LIMIT" && error.code !== "E_IO") {
    return error;
  }
  return new VmmError(error.code, error.message, {
    hint:
      error.code === "E_IO" ? "see whether the disk is full: df -h ~/.cache" : "boot the bzImage as it is",
    errno: error.errno,
    value: error.value,
  });
}

/** What a bzImage holds. @throws VmmError E_BAD_IMAGE, E_TRUNCATED */
export function probe(image: Uint8Array): PayloadInfo {
  const info = newInfo();
  const err = L.VmmhpcError.alloc({ size: L.VmmhpcError.size });
  const status = functions().probe(image, BigInt(image.byteLength), info, err);
  if (status < 0) {
    throw unpackError(status, err);
  }
  return VmmhpcPayloadInfo.decode(info);
}

/** Unpack to an empty regular file, in a thread of koffi's pool. `image` must not change meanwhile. */
export function unpack(image: Uint8Array, fd: number, maxBytes: bigint): Promise<PayloadInfo> {
  return new Promise((resolve, reject) => {
    const info = newInfo();
    const err = L.VmmhpcError.alloc({ size: L.VmmhpcError.size });
    functions().unpack.async(image, BigInt(image.byteLength), fd, maxBytes, info, err, (error, status) => {
      if (error !== null) {
        reject(error);
      } else if (status < 0) {
        reject(unpackError(status, err));
      } else if (image.byteLength === 0) {
        // Also: naming the image here keeps it alive until the call has ended.
        reject(new VmmError("E_STATE", "the image was taken away while it was unpacked"));
      } else {
        resolve(VmmhpcPayloadInfo.decode(info));
      }
    });
  });
}
