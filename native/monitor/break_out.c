/* SPDX-License-Identifier: Apache-2.0 */
/* Debug build only: at a client's request the control thread tries to get out of its jail. */
#ifdef VH_DEBUG_MONITOR
#include <string.h>

#include "monitor/breakout.h"
#include "monitor/monitor.h"

/* What jail-test makes outside is not there: in the way stand the lists, which come first. */
static const struct vh_breakout_world world = {
    .process = 1, .abstract = "v3m-nobody", .segment = 0, .ring = -1, .thread = 1};

int32_t vh_monitor_break_out(struct vh_wire *in, struct vh_wire *out, struct vmmhpc_error *err)
{
    struct vh_breakout_result result;
    uint32_t attempt = vh_get_u32(in);
    if (!vh_wire_done(in) || attempt >= vh_breakout_count()) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, attempt, "there are %u attempts",
                       vh_breakout_count());
    }
    if (vh_breakout_is_fatal(attempt)) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, attempt, "%s would end the monitor",
                       vh_breakout_name(attempt));
    }
    vh_breakout_run(attempt, &world, &result);
    vh_put_u32(out, (uint32_t)result.outcome);
    vh_put_text(out, vh_breakout_name(attempt));
    vh_put_text(out, result.outcome == VH_BREAKOUT_TRAPPED
                         ? vh_seccomp_name(result.number)
                         : vh_breakout_layer_name(vh_breakout_layer(attempt)));
    return VMMHPC_OK;
}
#else
/* A translation unit is not to be empty. */
typedef int vh_not_debug;
#endif
