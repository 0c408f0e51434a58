; SPDX-License-Identifier: Apache-2.0
; Ring 3. p0: sum of what it tries (1 a port with IOPL 3, 2 a port that the TSS bitmap allows,
; 4 memory-mapped I/O, 8 a port that nothing allows, 16 a privileged instruction), p1: port,
; p2: address, p3: accesses of each kind. For each it prints "done" or the exception it met; the last
; two must give exception 13, the others only on hosts without hardware virtualization.
%define NAME "ring3"
%include "flat64.inc"
%include "idt64.inc"
HEADER 31, 0xf0, 0xd0000000, 3

UD              equ 6           ; ud2 is how ring 3 comes back
GP              equ 13
IOPL_3          equ 3 << 12
RFLAGS          equ 2
PTE_USER        equ 4
PTE_HUGE        equ 0x80
TSS_BYTES       equ 104
BITMAP_BYTES    equ 8192

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

; To rsi in ring 3 with rflags edi; comes back with the exception's number in rax.
run_user:
        mov     [kernel_rsp], rsp
        push    SEL_USER_DATA
        lea     rax, [user_stack]
        push    rax
        push    rdi
        push    SEL_USER_CODE
        push    rsi
        iretq
on_ud:  mov     eax, UD
        mov     rsp, [kernel_rsp]
        ret
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

; Let ring 3 use the whole identity map.
user_pages:
        mov     rdi, cr3
        or      qword [rdi], PTE_USER
        mov     rdi, [rdi]
        and     rdi, ~0xfff
        xor     ecx, ecx
.gib:   mov     rsi, [rdi + 8 * rcx]
        or      qword [rdi + 8 * rcx], PTE_USER
        test    esi, PTE_HUGE
        jnz     .next
        and     rsi, ~0xfff
        xor     edx, edx
.page:  or      qword [rsi + 8 * rdx], PTE_USER
        inc     edx
        cmp     edx, 512
        jb      .page
.next:  inc     ecx
        cmp     ecx, 4
        jb      .gib
        mov     rdi, cr3
        mov     cr3, rdi
        ret

; Task register with a TSS of limit ecx (Intel SDM 3A, 8.7). The bitmap is all zero: allowed.
load_tss:
        lea     rax, [kernel_stack]
        mov     [tss + 4], rax          ; RSP0
        mov     word [tss + 102], TSS_BYTES
        mov     byte [tss + TSS_BYTES + BITMAP_BYTES], 0xff
        lea     rax, [tss]
        mov     [gdt.tss], cx
        mov     [gdt.tss + 2], ax
        shr     rax, 16
        mov     [gdt.tss + 4], al
        mov     word [gdt.tss + 5], 0x89        ; present, available 64-bit TSS
        mov     [gdt.tss + 7], ah
        mov     eax, SEL_TSS
        ltr     ax
        ret

section .bss
alignb 16
tss:    resb    TSS_BYTES + BITMAP_BYTES + 1
alignb 16
        resb    1024
kernel_stack:
        resb    1024
user_stack:
kernel_rsp: resq 1
