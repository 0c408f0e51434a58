// SPDX-License-Identifier: Apache-2.0
/* The window of a program on the lightweight kernel. */
#include "window.h"

int32_t bypass_window_lwk(int32_t waits, struct bypass_window **out)
{
    (void)waits;
    (void)out;
    return BYPASS_E_UNSUPPORTED;
}
