; SPDX-License-Identifier: Apache-2.0
; Deliberate triple fault: an exception with an IDT that holds nothing.
%define NAME "triple"
%include "flat64.inc"
HEADER

        PRINT   "triple: now", 10
        lidt    [.empty]
        ud2
.empty: dw      0
        dq      0
