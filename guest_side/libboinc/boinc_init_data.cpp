// SPDX-License-Identifier: Apache-2.0
// boinc_init_data.cpp - what is known of the job in BOINC's own APP_INIT_DATA, for programs that were compiled with BOINC's
// headers. The structure differs from version to version, so this is compiled with the headers of that version.
#include <boinc_api.h>

#include "inside.h"

#define PUBLIC __attribute__((visibility("default")))

// It lies in libboinc, where the structure's constructor does too: who has one of them has it.
extern "C" void clear_all(APP_INIT_DATA *data) __asm__("_ZN13APP_INIT_DATA5clearEv") __attribute__((weak));

#define TEXT(member) api_known_text(#member, data.member, sizeof data.member)
#define NUMBER(member) data.member = api_known_number(#member)
#define INTEGER(member) data.member = (int)api_known_number(#member)
#define HOST_NUMBER(member) data.host_info.member = api_known_number(#member)

static void fill(APP_INIT_DATA &data)
{
    TEXT(app_name);
    TEXT(wu_name);
    TEXT(result_name);
    TEXT(project_dir);
    TEXT(boinc_dir);
    INTEGER(major_version);
    INTEGER(minor_version);
    INTEGER(release);
    INTEGER(app_version);
    INTEGER(gpu_device_num);
    INTEGER(gpu_opencl_dev_index);
    NUMBER(ncpus);
    NUMBER(rsc_fpops_est);
    NUMBER(rsc_fpops_bound);
    NUMBER(rsc_memory_bound);
    NUMBER(rsc_disk_bound);
    NUMBER(wu_cpu_time);
    NUMBER(starting_elapsed_time);
    NUMBER(computation_deadline);
    NUMBER(resource_share_fraction);
    NUMBER(fraction_done_start);
    NUMBER(fraction_done_end);
    NUMBER(checkpoint_period);
    data.host_info.p_ncpus = (int)api_known_number("p_ncpus");
    HOST_NUMBER(p_fpops);
    HOST_NUMBER(p_iops);
    HOST_NUMBER(m_nbytes);
}

PUBLIC int boinc_get_init_data(APP_INIT_DATA &data)
{
    if (clear_all)
        clear_all(&data);
    fill(data);
    return 0;
}

extern "C" PUBLIC int boinc_get_init_data_p(struct APP_INIT_DATA *data)
{
    return data ? boinc_get_init_data(*data) : -116;
}
