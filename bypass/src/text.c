// SPDX-License-Identifier: Apache-2.0
#include "bypass.h"

const char *bypass_text(int32_t code)
{
    switch (code) {
    case BYPASS_OK:
        return "success";
    case BYPASS_PENDING:
        return "not complete yet";
    case BYPASS_E_INVALID:
        return "an argument is wrong";
    case BYPASS_E_SYSTEM:
        return "a system call failed";
    case BYPASS_E_PEER_GONE:
        return "the peer is gone";
    case BYPASS_E_PROTOCOL:
        return "the peer's area holds nonsense";
    case BYPASS_E_TRUNCATED:
        return "the message was longer than the buffer";
    case BYPASS_E_TIMEOUT:
        return "it took too long";
    case BYPASS_E_MEMORY:
        return "no memory, or no space in the area";
    case BYPASS_E_UNSUPPORTED:
        return "not possible here";
    case BYPASS_E_UNCONNECTED:
        return "no link to that peer";
    default:
        return "unknown code";
    }
}
