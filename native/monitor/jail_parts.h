/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of the jail. All report the part that could not be set up. */
#ifndef VH_JAIL_PARTS_H
#define VH_JAIL_PARTS_H

#include "monitor/jail.h"

/** The error for a part; errno says why, `what` the call that failed. */
int32_t vh_jail_fail(uint32_t part, const char *what, struct vmmhpc_error *err);

/* jail_tidy.c: before anything else; nothing here is a part. */
int32_t vh_jail_tidy(struct vmmhpc_error *err);

/* jail_ns.c: the outer process. */
int32_t vh_jail_become(const struct vh_jail_config *config, struct vmmhpc_error *err);
/** owner: who started the process, when vh_jail_become() has made it another. */
int32_t vh_jail_namespaces(const struct vh_jail_config *config, uint32_t owner,
                           struct vmmhpc_error *err);

/* jail_rights.c: the jailed process. */
int32_t vh_jail_capabilities(struct vmmhpc_error *err);
int32_t vh_jail_no_new_privs(struct vmmhpc_error *err);
int32_t vh_jail_rlimits(const struct vh_jail_config *config, struct vmmhpc_error *err);

/* glibc has no wrappers for these. */
int32_t vh_jail_keep_capabilities(struct vmmhpc_error *err);

#endif
