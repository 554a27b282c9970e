/*
 * KVM root retention: for QEMUs without KVM on x86
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-kvm-root-retention.h"

static void not_here(Error **errp)
{
    error_setg(errp, "KVM root retention needs the accelerator KVM on x86, "
               "which this QEMU was built without");
}

KvmRootRetentionInfo *qmp_query_kvm_root_retention(Error **errp)
{
    not_here(errp);
    return NULL;
}

void qmp_set_kvm_root_retention(KvmRootRetentionSetting *setting, Error **errp)
{
    not_here(errp);
}
