/* SPDX-License-Identifier: Apache-2.0 */
/* nothing.c - what BOINC's library has and a machine has no use for: the answers of the real one, and no effect. */
#include "boinc_api.h"

#include <stdbool.h>

#if defined(__GNUC__)
#define PUBLIC __attribute__((visibility("default")))
#else
#define PUBLIC
#endif

PUBLIC const char *api_version = "API_VERSION_7.20.5"; /* the one whose interface this is */
PUBLIC void *app_client_shm; /* NULL, as without a client: the memory that a client and a program share */
PUBLIC volatile bool got_heartbeat_message = true; /* boinc_status holds from the beginning */

/* Whether there is a network is for the job to say, and the client's for the machine. */

PUBLIC void boinc_need_network(void)
{
}

PUBLIC int boinc_network_poll(void)
{
    return 0;
}

PUBLIC void boinc_network_done(void)
{
}

PUBLIC void boinc_network_usage(double sent, double received)
{
    (void)sent;
    (void)received;
}

PUBLIC int boinc_suspend_other_activities(void)
{
    return 0;
}

PUBLIC int boinc_resume_other_activities(void)
{
    return 0;
}

PUBLIC void boinc_ops_per_cpu_sec(double fp, double integer)
{
    (void)fp;
    (void)integer;
}

PUBLIC void boinc_web_graphics_url(char *url)
{
    (void)url;
}

PUBLIC void boinc_remote_desktop_addr(char *address)
{
    (void)address;
}
