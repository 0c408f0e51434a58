; SPDX-License-Identifier: Apache-2.0
; Port accesses, one exit each. p0: count, p1: port, p2: bytes (1, 2, 4), p3: 0 write, 1 read,
; p4: value to write.
%define NAME "pio"
%include "flat64.inc"
HEADER 1000, 0xf0, 1, 0, 0x42

        mov     rcx, PARAM(0)
        mov     rdx, PARAM(1)
        mov     rax, PARAM(4)
        mov     rbx, PARAM(2)
        cmp     qword PARAM(3), 0
        jne     .read
        cmp     ebx, 2
        ja      .write4
        je      .write2
.write1:
        out     dx, al
        dec     rcx
        jnz     .write1
        jmp     .done
.write2:
        out     dx, ax
        dec     rcx
        jnz     .write2
        jmp     .done
.write4:
        out     dx, eax
        dec     rcx
        jnz     .write4
        jmp     .done

.read:  xor     eax, eax
        cmp     ebx, 2
        ja      .read4
        je      .read2
.read1: in      al, dx
        dec     rcx
        jnz     .read1
        jmp     .done
.read2: in      ax, dx
        dec     rcx
        jnz     .read2
        jmp     .done
.read4: in      eax, dx
        dec     rcx
        jnz     .read4

.done:  PRINT_DEC "pio: count ", PARAM(0)
        PRINT_HEX " last ", rax
        PRINT   10
        PASS
