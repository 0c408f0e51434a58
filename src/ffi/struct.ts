// SPDX-License-Identifier: Apache-2.0
/**
 * C structures from tables. A structure is declared once, as a list of fields in C order; offsets follow
 * from the x86-64 C rules, and reading and writing go through a DataView on any memory:
 *
 *     const Point = struct('point', { x: u32, y: u64 });
 *     type Point = StructValue<typeof Point>;          // { x: number; y: bigint }
 *     Point.write(view, 0, { x: 1 });                  // partial: y stays as it is
 *     const { x, y } = Point.read(view, 0);
 *
 * A unit test compiles a C program that compares every size and offset with the compiler's.
 */
import { ArgumentError } from "../errors.js";

/** How a value of type T lies in memory. `read` copies out, `write` copies in; both check bounds. */
export interface FieldType<T> {
  readonly size: number;
  readonly align: number;
  read(view: DataView, at: number): T;
  write(view: DataView, at: number, value: T): void;
}

/** Bytes that nobody should look at: padding and reserved fields. Written as they are, never read. */
export interface HiddenField extends FieldType<never> {
  readonly hidden: true;
}

type AnyField = FieldType<never> | FieldType<unknown>;
type Fields = Readonly<Record<string, AnyField>>;

/** The half of a field type that says what its values are (`write` of a structure takes less). */
interface Readable<T> {
  read(view: DataView, at: number): T;
}

type VisibleKeys<F extends Fields> = {
  [K in keyof F]: F[K] extends HiddenField ? never : K;
}[keyof F];

/** The object form of a structure. */
export type ObjectOf<F extends Fields> = {
  -readonly [K in VisibleKeys<F>]: F[K] extends Readable<infer T> ? T : never;
};

/** A structure: also a field type, so that structures nest. `write` takes any subset of the fields. */
export interface StructType<T> extends FieldType<T> {
  readonly name: string;
  /** Byte offset of each field, hidden ones included. */
  readonly offsets: Readonly<Record<string, number>>;
  /** Size of each field. */
  readonly sizes: Readonly<Record<string, number>>;
  write(view: DataView, at: number, value: Partial<T>): void;
  /** A fresh zeroed buffer of this size, with `value` written if given. */
  alloc(value?: Partial<T>): Uint8Array;
  /** Read from a buffer that `alloc` made (or any that is long enough). */
  decode(bytes: Uint8Array, at?: number): T;
}

/** The object form of a structure type: `StructValue<typeof KvmRegs>`. */
export type StructValue<S> = S extends Readable<infer T> ? T : never;

const LITTLE = true;

function scalar<T>(
  size: number,
  get: (view: DataView, at: number) => T,
  set: (view: DataView, at: number, value: T) => void,
): FieldType<T> {
  return { size, align: size, read: get, write: set };
}

export const u8 = scalar<number>(
  1,
  (v, at) => v.getUint8(at),
  (v, at, x) => v.setUint8(at, x),
);
export const u16 = scalar<number>(
  2,
  (v, at) => v.getUint16(at, LITTLE),
  (v, at, x) => v.setUint16(at, x, LITTLE),
);
export const u32 = scalar<number>(
  4,
  (v, at) => v.getUint32(at, LITTLE),
  (v, at, x) => v.setUint32(at, x, LITTLE),
);
export const i32 = scalar<number>(
  4,
  (v, at) => v.getInt32(at, LITTLE),
  (v, at, x) => v.setInt32(at, x, LITTLE),
);
export const u64 = scalar<bigint>(
  8,
  (v, at) => v.getBigUint64(at, LITTLE),
  (v, at, x) => v.setBigUint64(at, x, LITTLE),
);
export const i64 = scalar<bigint>(
  8,
  (v, at) => v.getBigInt64(at, LITTLE),
  (v, at, x) => v.setBigInt64(at, x, LITTLE),
);
/** A host address; 0n is NULL. The memory behind it must outlive the use of the structure. */
export const ptr = u64;

/** `n` bytes of padding or reserved space. */
export function pad(n: number, align = 1): HiddenField {
  return {
    size: n,
    align,
    hidden: true,
    read(): never {
      throw new ArgumentError("a hidden field has no value");
    },
    write(): void {},
  };
}

/** A fixed array of bytes; reading copies. Writing a shorter one leaves the rest. */
export function bytes(n: number): FieldType<Uint8Array> {
  return {
    size: n,
    align: 1,
    read: (v, at) => new Uint8Array(v.buffer, v.byteOffset + at, n).slice(),
    write(v, at, x) {
      if (x.length > n) {
        throw new ArgumentError(`${x.length} bytes do not fit in a field of ${n}`, {
          value: BigInt(x.length),
        });
      }
      new Uint8Array(v.buffer, v.byteOffset + at, n).set(x);
    },
  };
}

/** A NUL-terminated string in a fixed array of `n` bytes. */
export function chars(n: number): FieldType<string> {
  const raw = bytes(n);
  return {
    size: n,
    align: 1,
    read(v, at) {
      const all = Buffer.from(raw.read(v, at));
      const end = all.indexOf(0);
      return all.toString("utf8", 0, end < 0 ? n : end);
    },
    write(v, at, x) {
      raw.write(v, at, Buffer.from(`${x}\0`));
    },
  };
}

/** A fixed array. Writing a shorter one leaves the rest. */
export function array<F extends AnyField>(field: F, n: number): FieldType<StructValue<F>[]> {
  const item = field as FieldType<StructValue<F>>;
  return {
    size: item.size * n,
    align: item.align,
    read: (v, at) => Array.from({ length: n }, (_, i) => item.read(v, at + i * item.size)),
    write(v, at, values) {
      if (values.length > n) {
        throw new ArgumentError(`${values.length} elements do not fit in an array of ${n}`, {
          value: BigInt(values.length),
        });
      }
      values.forEach((value, i) => {
        item.write(v, at + i * item.size, value);
      });
    },
  };
}

function alignUp(value: number, align: number): number {
  return Math.ceil(value / align) * align;
}

/** A view on the bytes of a typed array. */
export function viewOf(memory: ArrayBufferView): DataView {
  return new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
}

/** Declare a structure. `name` is the C tag: `struct('kvm_regs', …)` is `struct kvm_regs`. */
export function struct<F extends Fields>(name: string, fields: F): StructType<ObjectOf<F>> {
  type T = ObjectOf<F>;
  const offsets: Record<string, number> = {};
  const sizes: Record<string, number> = {};
  const visible: [key: string, at: number, type: FieldType<unknown>][] = [];
  let end = 0;
  let align = 1;
  for (const [key, type] of Object.entries(fields)) {
    const at = alignUp(end, type.align);
    offsets[key] = at;
    sizes[key] = type.size;
    if (!("hidden" in type)) {
      visible.push([key, at, type as FieldType<unknown>]);
    }
    end = at + type.size;
    align = Math.max(align, type.align);
  }
  const size = alignUp(end, align);
  const known = new Map(visible.map(([key, at, type]) => [key, { at, type }]));

  const result: StructType<T> = {
    name,
    size,
    align,
    offsets,
    sizes,
    read(view, at) {
      const value: Record<string, unknown> = {};
      for (const [key, offset, type] of visible) {
        value[key] = type.read(view, at + offset);
      }
      return value as T;
    },
    write(view, at, value) {
      for (const key of Object.keys(value)) {
        const field = known.get(key);
        if (field === undefined) {
          throw new ArgumentError(`struct ${name} has no field "${key}"`);
        }
        const item = (value as Record<string, unknown>)[key];
        if (item !== undefined) {
          field.type.write(view, at + field.at, item);
        }
      }
    },
    alloc(value) {
      const memory = new Uint8Array(size);
      if (value !== undefined) {
        result.write(viewOf(memory), 0, value);
      }
      return memory;
    },
    decode: (memory, at = 0) => result.read(viewOf(memory), at),
  };
  return result;
}
