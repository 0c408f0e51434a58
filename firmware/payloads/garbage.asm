; SPDX-License-Identifier: Apache-2.0
; Writes pseudo-random garbage to every register it finds, then powers off. p0: seed, p1: passes,
; p2 and p3: first and last port, p4: sum of what it attacks (1 ports, 2 LAPIC, 4 IOAPIC, 8 memory
; where no device is). It keeps off what would end it early by right: sleep, reset, INIT to itself.
%define NAME "garbage"
%include "flat64.inc"
%include "idt64.inc"
%include "apic64.inc"
%include "random64.inc"
HEADER 0x2545f4914f6cdd1d, 1, 0, 0xffff, 15

NOWHERE equ 0xfed00000
NMI     equ 2

; ATTACK bit, routine
%macro ATTACK 2
        test    qword PARAM(4), %1
        jz      %%skip
        call    %2
%%skip:
%endmacro

        call    tables_init
        SET_GATE NMI, ignore_interrupt
        call    lapic_enable
        mov     r15, PARAM(0)
.pass:  ATTACK  2, lapic
        ATTACK  4, ioapic
        ATTACK  8, nowhere
        ATTACK  1, ports
        dec     qword PARAM(1)
        jnz     .pass
        mov     dx, UART_LCR            ; a UART that can print again
        mov     al, 3
        out     dx, al
        mov     al, 0
        mov     dx, UART_IER
        out     dx, al
        mov     dx, UART_FCR
        out     dx, al
        mov     dx, UART_MCR
        out     dx, al
        PRINT   10
        PASS

lapic:  mov     ebx, LAPIC
        call    page
        LAPIC_WRITE LAPIC_LVT_TIMER, LVT_MASKED
        LAPIC_WRITE LAPIC_TIMER, 0
        ret

; Every register through the window, then the page itself, then mask all pins: the UART's interrupt
; must not come as INIT or NMI.
ioapic: xor     ebx, ebx
.next:  call    random
        mov     ecx, ebx
        call    ioapic_write
        inc     ebx
        cmp     ebx, 256
        jb      .next
        mov     ebx, IOAPIC
        call    page
        mov     ecx, IOAPIC_ENTRY
.mask:  mov     eax, LVT_MASKED
        call    ioapic_write
        add     ecx, 2
        cmp     ecx, IOAPIC_ENTRY + 2 * 24
        jb      .mask
        ret

nowhere:
        mov     ebx, NOWHERE

; Accesses of all sizes all over the page at rbx.
page:   xor     esi, esi
.next:  call    random
        lea     rdi, [rbx + rsi]
        cmp     edi, LAPIC + LAPIC_ICR
        jne     .write
        and     eax, ~0x700             ; fixed delivery only
        mov     [rdi], eax
        jmp     .step
.write: mov     [rdi], eax
        bt      rax, 40
        jc      .read
        mov     [rdi + 1], al
        mov     [rdi + 2], ax
        mov     [rdi + 8], rax
.read:  mov     rax, [rdi]
        movzx   eax, byte [rdi + 3]
.step:  add     esi, 16
        cmp     esi, 4096
        jb      .next
        ret

; Every port once, in a size by chance; now and then a read, too.
ports:  mov     rbx, PARAM(2)
.next:  call    random
        mov     edx, ebx
        call    tame
        bt      rax, 33
        jc      .long
        bt      rax, 34
        jc      .word
        out     dx, al
        jmp     .read
.word:  out     dx, ax
        jmp     .read
.long:  out     dx, eax
.read:  test    r15d, 3
        jnz     .step
        in      eax, dx
.step:  inc     ebx
        cmp     rbx, PARAM(3)
        jbe     .next
        ret

; Make the value in rax harmless for port edx: byte-wide at and just below the ports that end the
; machine, and without the bit that does it.
tame:   mov     ecx, PORT_SLEEP
        mov     edi, ~0x20
        call    .check
        mov     ecx, PORT_RESET
        mov     edi, ~0x04
        call    .check
        mov     ecx, PORT_I8042
        mov     edi, ~0x80
        call    .check
        mov     ecx, PORT_EXIT
        mov     edi, -1
.check: sub     ecx, edx
        cmp     ecx, 3
        ja      .other
        btr     rax, 33
        btr     rax, 34
        test    ecx, ecx
        jnz     .other
        and     eax, edi
.other: ret
