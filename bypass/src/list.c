// SPDX-License-Identifier: Apache-2.0
/* Requests in order. A request is in one list at most. */
#include "endpoint.h"

void list_init(struct request_list *list)
{
    list->first = NULL;
    list->end = &list->first;
}

void list_append(struct request_list *list, struct bypass_request *request)
{
    request->next = NULL;
    *list->end = request;
    list->end = &request->next;
}

struct bypass_request *list_take(struct request_list *list)
{
    struct bypass_request *request = list->first;
    if (request != NULL) {
        list->first = request->next;
        if (list->first == NULL) {
            list->end = &list->first;
        }
    }
    return request;
}

int32_t list_remove(struct request_list *list, struct bypass_request *request)
{
    for (struct bypass_request **at = &list->first; *at != NULL; at = &(*at)->next) {
        if (*at == request) {
            *at = request->next;
            if (*at == NULL) {
                list->end = at;
            }
            return 1;
        }
    }
    return 0;
}

void request_end(struct bypass_request *request, int32_t result)
{
    request->result = result;
}

void list_end(struct request_list *list, int32_t result)
{
    struct bypass_request *request = NULL;
    while ((request = list_take(list)) != NULL) {
        request_end(request, result);
    }
}
