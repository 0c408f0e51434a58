/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI configuration by ports 0xcf8 and 0xcfc (PCI 3.0, 3.2.2.3.2, "mechanism #1"): bus 0 with a
 * host bridge and nothing else.
 *
 * A machine without PCI devices has it all the same: Linux looks for a configuration mechanism at
 * every boot, and where it finds none it goes on searching and reports an error on the console,
 * which costs about 150 exits. A host bridge that says what it is ends the search at once.
 */
#ifndef VH_PCI_H
#define VH_PCI_H

#include <stdatomic.h>

#include "internal.h"

struct vh_pci {
    _Atomic uint32_t address; /* what was last written to 0xcf8 */
};

/** Ports 0xcf8 ... 0xcff, as a vmmhpc_handler; opaque is a struct vh_pci. */
uint64_t vh_pci_access(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                       uint32_t direction, uint64_t value);

void vh_pci_reset(struct vh_pci *pci);

#endif
