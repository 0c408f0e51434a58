; SPDX-License-Identifier: Apache-2.0
; Ring 3. p0: sum of what it tries (1 a port with IOPL 3, 2 a port that the TSS bitmap allows,
; 4 memory-mapped I/O, 8 a port that nothing allows, 16 a privileged instruction), p1: port,
; p2: address, p3: accesses of each kind. For each it prints "done" or the exception it met; the last
; two must give exception 13, the others only on hosts without hardware virtualization.
%define NAME "ring3"
%include "flat64.inc"
%include "idt64.inc"
%include "user64.inc"
HEADER 31, 0xf0, 0xd0000000, 3

GP              equ 13
IOPL_3          equ 3 << 12

; TRY bit, "name", entry, rflags
%macro TRY 4
        test    qword PARAM(0), %1
        jz      %%skip
        PRINT   "ring3: ", %2, " "
        lea     rsi, [%3]
        mov     edi, %4
        call    run_user
        call    report
%%skip:
%endmacro

        call    tables_init
        SET_GATE UD, on_ud
        SET_GATE GP, on_gp
        call    user_pages
        mov     ecx, TSS_BYTES + BITMAP_BYTES
        call    load_tss
        TRY     1, "iopl", user_ports, RFLAGS | IOPL_3
        TRY     2, "bitmap", user_ports, RFLAGS
        TRY     4, "mmio", user_mmio, RFLAGS
        mov     ecx, TSS_BYTES - 1      ; the bitmap lies beyond the limit: nothing is allowed
        call    load_tss
        TRY     8, "denied", user_ports, RFLAGS
        TRY     16, "privileged", user_hlt, RFLAGS
        PASS

user_ports:
        mov     rcx, PARAM(3)
        mov     rdx, PARAM(1)
        mov     eax, 0x42
.next:  out     dx, al
        in      al, dx
        dec     rcx
        jnz     .next
        ud2

user_mmio:
        mov     rcx, PARAM(3)
        mov     rdx, PARAM(2)
        mov     eax, 0x42
.next:  mov     [rdx], eax
        mov     eax, [rdx]
        dec     rcx
        jnz     .next
        ud2

user_hlt:
        hlt
        ud2

on_gp:  mov     eax, GP
        mov     rsp, [kernel_rsp]
        ret

report: cmp     eax, UD
        jne     .fault
        PRINT   "done", 10
        ret
.fault: PRINT_DEC "exception ", rax
        PRINT   10
        ret
