/**
 * A static x86-64 Linux program of some two hundred bytes, assembled here: writes a line to its standard output and
 * becomes another program. As /init of a guest it prints the first user-space line a few system calls after exec,
 * where a shell would first relocate itself, read its environment and open its script: boot benchmarks measure the
 * kernel and the hypervisor, not the shell. No compiler is needed to build it.
 */

const LOAD_ADDRESS = 0x400000;
const ELF_HEADER_SIZE = 64;
const PROGRAM_HEADER_SIZE = 56;
const CODE_OFFSET = ELF_HEADER_SIZE + PROGRAM_HEADER_SIZE;

/** ELF image that writes `line` and then executes `argv[0]` with `argv` and the environment it was given itself. */
export function tinyInit(line: string, argv: readonly [string, ...string[]]): Buffer {
  const text = Buffer.from(line);
  const strings = argv.map((arg) => Buffer.from(`${arg}\0`));

  // Data follows the code: its addresses do not depend on values, only on the code's fixed size.
  const codeSize = assemble(0, 0, 0, 0).length;
  const textAddress = LOAD_ADDRESS + CODE_OFFSET + codeSize;
  const stringAddresses: number[] = [];
  let cursor = textAddress + text.length;
  for (const string of strings) {
    stringAddresses.push(cursor);
    cursor += string.length;
  }
  const vectorAddress = (cursor + 7) & ~7;
  const vector = Buffer.alloc((argv.length + 1) * 8);
  stringAddresses.forEach((address, index) => {
    vector.writeBigUInt64LE(BigInt(address), index * 8);
  });

  const code = assemble(textAddress, text.length, stringAddresses[0] ?? 0, vectorAddress);
  const gap = Buffer.alloc(vectorAddress - cursor);
  const body = Buffer.concat([code, text, ...strings, gap, vector]);
  return Buffer.concat([headers(CODE_OFFSET + body.length), body]);
}

function assemble(text: number, textLength: number, path: number, vector: number): Buffer {
  return Buffer.concat([
    // write(1, text, textLength)
    Buffer.from([0xbf, ...le32(1)]), // mov edi, 1
    Buffer.from([0xbe, ...le32(text)]), // mov esi, text
    Buffer.from([0xba, ...le32(textLength)]), // mov edx, textLength
    Buffer.from([0xb8, ...le32(1)]), // mov eax, SYS_write
    Buffer.from([0x0f, 0x05]), // syscall
    // At process entry the stack holds argc, argv[0..argc-1], 0, envp...
    Buffer.from([0x48, 0x8b, 0x04, 0x24]), // mov rax, [rsp]
    Buffer.from([0x48, 0x8d, 0x54, 0xc4, 0x10]), // lea rdx, [rsp + rax*8 + 16]
    // execve(path, vector, envp)
    Buffer.from([0xbf, ...le32(path)]), // mov edi, path
    Buffer.from([0xbe, ...le32(vector)]), // mov esi, vector
    Buffer.from([0xb8, ...le32(59)]), // mov eax, SYS_execve
    Buffer.from([0x0f, 0x05]), // syscall
    // It failed: exit(127), which as init panics the kernel visibly
    Buffer.from([0xbf, ...le32(127)]), // mov edi, 127
    Buffer.from([0xb8, ...le32(60)]), // mov eax, SYS_exit
    Buffer.from([0x0f, 0x05]), // syscall
  ]);
}

function le32(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, (value >>> 24) & 0xff];
}

/** ELF header and one readable, executable segment that holds the whole file. */
function headers(fileSize: number): Buffer {
  const elf = Buffer.alloc(CODE_OFFSET);
  elf.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0]); // magic, 64 bits, little endian, version, System V
  elf.writeUInt16LE(2, 16); // ET_EXEC
  elf.writeUInt16LE(62, 18); // EM_X86_64
  elf.writeUInt32LE(1, 20); // version
  elf.writeBigUInt64LE(BigInt(LOAD_ADDRESS + CODE_OFFSET), 24); // entry
  elf.writeBigUInt64LE(BigInt(ELF_HEADER_SIZE), 32); // program headers
  elf.writeUInt16LE(ELF_HEADER_SIZE, 52);
  elf.writeUInt16LE(PROGRAM_HEADER_SIZE, 54);
  elf.writeUInt16LE(1, 56); // number of program headers
  const p = ELF_HEADER_SIZE;
  elf.writeUInt32LE(1, p); // PT_LOAD
  elf.writeUInt32LE(5, p + 4); // readable, executable
  elf.writeBigUInt64LE(0n, p + 8); // offset
  elf.writeBigUInt64LE(BigInt(LOAD_ADDRESS), p + 16); // virtual address
  elf.writeBigUInt64LE(BigInt(LOAD_ADDRESS), p + 24); // physical address
  elf.writeBigUInt64LE(BigInt(fileSize), p + 32); // size in the file
  elf.writeBigUInt64LE(BigInt(fileSize), p + 40); // size in memory
  elf.writeBigUInt64LE(0x1000n, p + 48); // alignment
  return elf;
}
