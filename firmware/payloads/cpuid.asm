; SPDX-License-Identifier: Apache-2.0
; Prints CPUID, one line a leaf: "cpuid CPU LEAF SUBLEAF EAX EBX ECX EDX", all hexadecimal.
; p0: CPUs in the machine. The first prints everything, the others the leaves of the topology.
%define NAME "cpuid"
%include "flat64.inc"
%include "idt64.inc"
%include "apic64.inc"
%include "smp64.inc"
HEADER 1

RANGE_MAX equ 0x40              ; no more leaves than this of any range

        xor     ebx, ebx
        mov     [number], ebx
        xor     r8d, r8d
        call    range
        mov     r8d, 0x80000000
        call    range
        mov     eax, 1
        cpuid
        bt      ecx, 31                 ; a hypervisor is there
        jnc     .others
        mov     r8d, 0x40000000
        call    range
.others:
        mov     rdx, PARAM(0)
        cmp     rdx, 1
        jbe     .done
        call    tables_init
        call    lapic_enable
        call    smp_start
        mov     rdx, PARAM(0)
        call    smp_wait
.turn:  mov     eax, [turn]             ; the APs print one after the other
        cmp     rax, PARAM(0)
        jb      .turn
.done:  PASS

ap_main:
        pause
        cmp     [turn], ebx
        jne     ap_main
        mov     [number], ebx
        mov     r8d, 1
        call    leaf
        mov     r8d, 0xb
        call    leaf
        mov     r8d, 0x1f
        call    leaf
        mov     r8d, 0x8000001e
        call    leaf
        inc     dword [turn]
.stop:  cli
        hlt
        jmp     .stop

; All leaves from r8d on that leaf r8d says exist.
range:  mov     eax, r8d
        xor     ecx, ecx
        cpuid
        mov     r11d, eax
        lea     eax, [r8 + RANGE_MAX - 1]
        cmp     r11d, eax
        cmova   r11d, eax
.next:  call    leaf
        inc     r8d
        cmp     r8d, r11d
        jbe     .next
        ret

; All subleaves of leaf r8d, up to where it says that there are no more.
leaf:   xor     r9d, r9d
.next:  call    line
        mov     eax, r8d
        mov     ecx, r9d
        cpuid
        inc     r9d
        cmp     r8d, 4                  ; caches: until type 0
        je      .cache
        cmp     r8d, 0x8000001d
        je      .cache
        cmp     r8d, 0xb                ; topology: until an invalid level
        je      .level
        cmp     r8d, 0x1f
        je      .level
        cmp     r8d, 7                  ; features: EAX of subleaf 0 is the last
        je      .count
        cmp     r8d, 0xd                ; XSAVE: 0 and 1 are general
        jne     .done
        cmp     r9d, 2
        jb      .next
.done:  ret
.cache: test    al, 0x1f
        jnz     .more
        ret
.level: test    ch, ch
        jnz     .more
        ret
.count: cmp     r9d, 1
        jne     .again
        mov     r10d, eax
.again: cmp     r9d, r10d
        ja      .done
.more:  cmp     r9d, RANGE_MAX
        jb      .next
        ret

line:   PRINT_HEX "cpuid ", [number]
        PRINT_HEX " ", r8
        PRINT_HEX " ", r9
        push    rbx
        mov     eax, r8d
        mov     ecx, r9d
        cpuid
        mov     [values], eax
        mov     [values + 4], ebx
        mov     [values + 8], ecx
        mov     [values + 12], edx
        pop     rbx
        lea     rsi, [values]
        mov     ecx, 4
.next:  lodsd
        PRINT   " "
        call    put_hex
        loop    .next
        PRINT   10
        ret

section .data
align 8
number: dq      0
turn:   dq      1

section .bss
alignb 4
values: resd    4
