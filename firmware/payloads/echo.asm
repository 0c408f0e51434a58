; SPDX-License-Identifier: Apache-2.0
; Echoes what comes in on the UART until it reads 0x04. p0: 0 by polling, 1 receives by interrupt,
; 2 sends by interrupt, too; p1: spins for each character, so that input must wait;
; p2: FIFO control register (0: no FIFO).
%define NAME "echo"
%include "flat64.inc"
%include "idt64.inc"
%include "apic64.inc"
HEADER 0, 0, 0x01

GSI             equ 4
VECTOR          equ 0x40
END             equ 4
IER_RX          equ 1
IER_TX          equ 2
MCR_LISTEN      equ 0x0b        ; DTR, RTS, OUT2: the interrupt line is on
IIR             equ UART_FCR
RING            equ 256         ; a power of two
FIFO            equ 16

        call    tables_init
        SET_GATE VECTOR, on_uart
        call    lapic_enable
        mov     ecx, GSI
        mov     eax, VECTOR
        call    ioapic_route
        mov     dx, UART_FCR
        mov     al, PARAM(2)
        out     dx, al
        PRINT   "echo: ready", 10
        mov     dx, UART_MCR
        mov     al, MCR_LISTEN
        out     dx, al
        cmp     qword PARAM(0), 0
        jne     .interrupts
.poll:  mov     dx, UART_LSR
        in      al, dx
        test    al, LSR_DATA
        jz      .poll
        call    receive
        cmp     al, END
        je      .done
        call    put_char
        jmp     .poll

.interrupts:
        mov     byte [ier], IER_RX
        call    set_ier
.wait:  cli
        cmp     byte [ended], 0
        jne     .drain
        call    halt
        jmp     .wait
.drain: mov     ax, [tail]              ; in mode 2 some may still wait in the ring
        cmp     ax, [head]
        je      .done
        call    halt
        cli
        jmp     .drain
.done:  mov     dx, UART_IER
        mov     al, 0
        out     dx, al
        PRINT_DEC {10, "echo: bytes "}, [count]
        PRINT   10
        PASS

; One byte into al, after the delay.
receive:
        mov     rcx, PARAM(1)
        jrcxz   .now
.spin:  loop    .spin
.now:   mov     dx, UART
        in      al, dx
        cmp     al, END
        je      .end
        inc     qword [count]
.end:   ret

set_ier:
        mov     dx, UART_IER
        mov     al, [ier]
        out     dx, al
        ret

; Until no cause is left, as the line is edge-triggered.
on_uart:
        push    rax
        push    rbx
        push    rcx
        push    rdx
.next:  mov     dx, IIR
        in      al, dx
        and     al, 0x0f
        test    al, 1
        jnz     .none
        cmp     al, 2
        je      .send
        mov     dx, UART_LSR            ; data, or a line error that this read clears
        in      al, dx
        test    al, LSR_DATA
        jz      .next
        call    receive
        cmp     al, END
        je      .ended
        cmp     qword PARAM(0), 2
        je      .queue
        call    put_char
        jmp     .next
.ended: mov     byte [ended], 1
        jmp     .next
.queue: movzx   ebx, byte [head]
        lea     rdx, [ring]
        mov     [rdx + rbx], al
        inc     word [head]
        or      byte [ier], IER_TX
        mov     ax, [head]
        sub     ax, [tail]
        cmp     ax, RING
        jb      .set
        and     byte [ier], ~IER_RX     ; full: listen again when there is room
.set:   call    set_ier
        jmp     .next
.send:  mov     ecx, 1                  ; the transmitter takes one byte, or a FIFO of them
        test    byte PARAM(2), 1
        jz      .byte
        mov     ecx, FIFO
.byte:  mov     ax, [tail]
        cmp     ax, [head]
        je      .empty
        movzx   ebx, al
        lea     rdx, [ring]
        mov     al, [rdx + rbx]
        mov     dx, UART
        out     dx, al
        inc     word [tail]
        loop    .byte
        or      byte [ier], IER_RX
        jmp     .set
.empty: and     byte [ier], ~IER_TX
        or      byte [ier], IER_RX
        jmp     .set
.none:  EOI
        pop     rdx
        pop     rcx
        pop     rbx
        pop     rax
        jmp     interrupt_end

section .bss
ring:   resb    RING
alignb 8
count:  resq    1
head:   resw    1               ; bytes put into the ring so far, modulo 65,536
tail:   resw    1               ; bytes taken out
ier:    resb    1
ended:  resb    1
