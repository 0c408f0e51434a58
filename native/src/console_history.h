/* SPDX-License-Identifier: Apache-2.0 */
/* Scroll-back: a ring in a file that is mapped shared, so that it outlives the process. All calls
 * are made under console_lock; without a history they do nothing. */
#ifndef VH_CONSOLE_HISTORY_H
#define VH_CONSOLE_HISTORY_H

#include "machine.h"

void vh_history_append(struct vh_console *console, const uint8_t *data, uint32_t bytes);
/** Write all that is kept to a socket that nobody has used yet. */
void vh_history_send(const struct vh_console *console, int fd);
void vh_history_unmap(struct vh_console *console);

#endif
