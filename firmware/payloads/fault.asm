; SPDX-License-Identifier: Apache-2.0
; Page faults taken by the payload itself. p0: pages (up to 512). Each page is written while absent,
; then while write-protected; both times the handler mends it. Error codes and CR2 are checked.
%define NAME "fault"
%include "flat64.inc"
%include "idt64.inc"
HEADER 16

WINDOW          equ 1 << 39     ; second entry of the PML4
PTE_PRESENT     equ 1
PTE_WRITABLE    equ 2
ERROR_ABSENT    equ 2           ; a write to an absent page
ERROR_PROTECTED equ 3           ; a write to a present page
CR0_WP          equ 1 << 16
VECTOR          equ 14

        call    tables_init
        SET_GATE VECTOR, on_fault
        mov     rax, cr3                ; PML4 -> pdpt -> pd -> pt, which is empty
        lea     rdx, [pdpt + PTE_PRESENT + PTE_WRITABLE]
        mov     [rax + 8], rdx
        lea     rdx, [pd + PTE_PRESENT + PTE_WRITABLE]
        mov     [pdpt], rdx
        lea     rdx, [pt + PTE_PRESENT + PTE_WRITABLE]
        mov     [pd], rdx
        mov     cr3, rax
        mov     rax, cr0
        or      rax, CR0_WP
        mov     cr0, rax

        mov     qword [expected], ERROR_ABSENT
        call    write_all
        xor     ecx, ecx                ; protect
        mov     rdi, WINDOW
.protect:
        lea     rdx, [pt]
        and     qword [rdx + 8 * rcx], ~PTE_WRITABLE
        invlpg  [rdi]
        add     rdi, 4096
        inc     rcx
        cmp     rcx, PARAM(0)
        jb      .protect
        mov     qword [expected], ERROR_PROTECTED
        call    write_all
        mov     rax, PARAM(0)
        add     rax, rax
        cmp     [faults], rax
        jne     .count
        PRINT_DEC "fault: faults ", rax
        PRINT   10
        PASS
.count: FAIL    "wrong number of faults"

; Write each page's number into it and read it back through the identity map.
write_all:
        xor     ecx, ecx
        mov     rdi, WINDOW
        mov     ebx, BUFFER
.next:  mov     [rdi], rcx
        cmp     [rbx], rcx
        jne     .lost
        add     rdi, 4096
        add     rbx, 4096
        inc     rcx
        cmp     rcx, PARAM(0)
        jb      .next
        ret
.lost:  FAIL    "a write was lost"

on_fault:
        push    rax
        push    rdx
        push    rsi
        mov     rax, [rsp + 24]         ; error code
        cmp     rax, [expected]
        jne     .wrong
        mov     rax, cr2
        cmp     rax, rdi
        jne     .wrong
        mov     rdx, WINDOW
        sub     rax, rdx
        lea     rdx, [BUFFER + PTE_PRESENT + PTE_WRITABLE + rax]
        shr     rax, 12
        lea     rsi, [pt]
        mov     [rsi + 8 * rax], rdx
        invlpg  [rdi]
        inc     qword [faults]
        pop     rsi
        pop     rdx
        pop     rax
        add     rsp, 8                  ; error code
        iretq
.wrong: add     rsp, 24
        push    VECTOR
        jmp     exception

section .bss
alignb 4096
pdpt:   resb    4096
pd:     resb    4096
pt:     resb    4096
expected: resq  1
faults: resq    1
