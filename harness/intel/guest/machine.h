/* Brings the machine from "the kernel runs" to "the host's tree is the root directory". */
#ifndef V3M_MACHINE_H
#define V3M_MACHINE_H

#include "job.h"

/* Kernel file systems, and the modules that need no device. All of it is the same for every run. */
void prepare_machine(void);

/* Drivers of the disks; waits until the disks are there. Returns the scratch disk, opened. */
int attach_disks(void);

/* Sets the clock and the random numbers, which a restored machine has from the day it was saved. */
void freshen_machine(const struct job *job);

/* Builds the tree: read-only images under a writable layer in memory, and makes it the root
 * directory. */
void enter_tree(const struct job *job);

/* Path of the disk whose model name is this, or fail(). The result is overwritten by the next call.
 */
const char *disk_named(const char *model);

#endif
