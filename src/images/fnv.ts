// SPDX-License-Identifier: Apache-2.0
/** FNV-1a of 64 bits, in two halves: a BigInt for each byte would take a hundred times as long. */

const PRIME_LOW = 0x1b3; // the prime is 2^40 + 0x1b3

export class Fnv1a {
  #high = 0xcbf29ce4;
  #low = 0x84222325;

  update(data: Uint8Array): this {
    let high = this.#high;
    let low = this.#low;
    for (const byte of data) {
      low = (low ^ byte) >>> 0;
      const product = low * PRIME_LOW;
      high = (high * PRIME_LOW + Math.floor(product / 2 ** 32) + ((low << 8) >>> 0)) % 2 ** 32;
      low = product % 2 ** 32;
    }
    this.#high = high;
    this.#low = low;
    return this;
  }

  get value(): bigint {
    return (BigInt(this.#high) << 32n) | BigInt(this.#low);
  }

  /** The low 32 bits of value xor (value >> 32). */
  get folded(): number {
    return (this.#high ^ this.#low) >>> 0;
  }
}
