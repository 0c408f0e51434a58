/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exceptions, interrupts and system calls: save the registers as struct frame, call C, go on with the
 * frame that C returns.
 *
 * From user mode the CPU pushes straight into struct thread (tss.rsp0 is the end of its frame), then
 * we change to the CPU's stack. In the QK the frame goes onto the stack in use.
 */
#include "x86.h"

#define CPU_STACK %gs:8
#define CPU_USER_RSP %gs:16
#define CPU_RSP0 %gs:32
#define VEC_SYSCALL 0x100
#define VECTORS 0x30

    /* With SMAP a program's AC flag would let the QK touch its memory by mistake. A no-op until
     * features_init() has found SMAP and patched it. */
    .macro smap_site bytes:vararg
9:  .byte 0x0f, 0x1f, 0x00
    .pushsection .smap_sites, "a"
    .quad 9b
    .byte \bytes, 0, 0, 0, 0, 0
    .popsection
    .endm
#define CLAC smap_site 0x0f, 0x01, 0xca

    .macro push_registers
    .irp r, rcx, rax, rdx, rbx, rbp, rsi, rdi, r15, r14, r13, r12, r11, r10, r9, r8
    push %\r
    .endr
    .endm

    .macro pop_registers
    .irp r, r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx
    pop %\r
    .endr
    .endm

    /* In struct frame. */
#define R11 (3 * 8)
#define RCX (14 * 8)
#define VECTOR (15 * 8)
#define RIP (17 * 8)
#define RFLAGS (19 * 8)

    .text
    /* Stubs of 8 bytes each, one a vector. */
    .globl vector_stubs
    .balign 16
vector_stubs:
    .set vector, 0
    .rept VECTORS
    .balign 8
    push $vector
    /* #DF #TS #NP #SS #GP #PF #AC #CP #VC #SX push an error code (SDM 3A, table 6-1; APM 2, 8.2). */
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
    jmp trap_common
    .else
    jmp trap_no_error
    .endif
    .set vector, vector + 1
    .endr

trap_no_error: /* an error code of 0 between the vector and what the CPU pushed */
    push (%rsp)
    movq $0, 8(%rsp)
trap_common:
    testb $3, 24(%rsp)
    jz trap_kernel
    swapgs
    push_registers
    mov %rsp, %rdi
    mov CPU_STACK, %rsp
    cld
    CLAC
    call user_trap
    jmp return_to_user

    /* NMI, #DF and #MC arrive here too, on stacks of their own; gs may be anything then. */
trap_kernel:
    push_registers
    mov %rsp, %rdi
    mov %rsp, %rbp
    and $-16, %rsp
    cld
    CLAC
    call kernel_trap
    mov %rbp, %rsp
    pop_registers
    add $16, %rsp
    iretq

    /* void halt(void): wait for an interrupt. STI takes effect after the next instruction, so none should
     * come before HLT. But one does after an NMI there, and also where QEMU emulates nested SVM (seen once
     * in 80 runs of a program): kernel_trap() goes on at halt_end then, or this wake-up would be lost. */
    .globl halt, halt_here, halt_end
halt:
    sti
halt_here:
    hlt
halt_end:
    cli
    ret

    .globl syscall_entry
syscall_entry: /* rcx: rip, r11: rflags; interrupts off by SFMASK */
    swapgs
    mov %rsp, CPU_USER_RSP
    mov CPU_RSP0, %rsp
    push $SEL_USER_DS
    push CPU_USER_RSP
    push %r11
    push $SEL_USER_CS
    push %rcx
    push %rax
    push $VEC_SYSCALL
    push_registers
    mov %rsp, %rdi
    mov CPU_STACK, %rsp
    CLAC
    call user_syscall

    /* rax: frame. SYSRET where the registers allow it; never with a RIP outside the application's
     * half: on Intel CPUs that faults in supervisor mode on the user's stack (SDM 2B, SYSRET). */
    .globl return_to_user
return_to_user:
    mov %rax, %rsp
    cmpq $VEC_SYSCALL, VECTOR(%rsp)
    jne return_by_iret
    mov RIP(%rsp), %rcx
    cmp RCX(%rsp), %rcx
    jne return_by_iret
    mov RFLAGS(%rsp), %r11
    cmp R11(%rsp), %r11
    jne return_by_iret
    test $(FLAG_TF | FLAG_RF), %r11d
    jnz return_by_iret
    shr $47, %rcx
    jnz return_by_iret
    pop_registers
    mov 5 * 8(%rsp), %rsp
    swapgs
    sysretq

return_by_iret:
    pop_registers
    add $16, %rsp
    swapgs
    iretq

    .section .note.GNU-stack, "", @progbits
