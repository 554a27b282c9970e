/*
 * QTest for KVM root retention: -accel kvm,root-retention=...,root-quota=...,
 * slot-zap=..., and the QMP and HMP commands about them
 *
 * The tests below option/ and no-kvm/ need no KVM.  Those below kvm/ do, see
 * kvm-common.h; what they expect depends on whether it has the capability.
 * Those below kvm/retention/ and kvm/stock/ are for a KVM with and without it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/utsname.h>
#include "kvm-common.h"
#include "standard-headers/linux/pci_regs.h"
#include "qapi/error.h"
#include "qobject/qjson.h"
#include "qobject/qnum.h"
#include "target/i386/kvm/tdp-root-retention.h"

#define CAP_NAME        "KVM_CAP_X86_TDP_ROOT_RETENTION"

static const char *qemu_binary;
static char *tmp_dir, *firmware;
static const char *const tmp_names[] = {
    "stderr", "log", "firmware", "migration", "disk",
};

static char *tmp_path(const char *name)
{
    return g_build_filename(tmp_dir, name, NULL);
}

static char *read_tmp(const char *name)
{
    g_autofree char *path = tmp_path(name);
    g_autoptr(GError) err = NULL;
    char *text = NULL;

    g_file_get_contents(path, &text, NULL, &err);
    g_assert_no_error(err);
    return text;
}

/* What this KVM has; set by have_kvm() */
static uint32_t capability;
static bool quirk;
static struct utsname host_uts;

#define FLAG(x) (KVM_X86_TDP_ROOT_##x << KVM_X86_TDP_ROOT_FLAGS_SHIFT)
#define KEEP    (1 << KVM_X86_TDP_ROOT_KEEP | FLAG(ELIDE) | FLAG(SLOT))
#define QUOTA   (1 << KVM_X86_TDP_ROOT_QUOTA)
#define ALL     (1 << KVM_X86_TDP_ROOT_DEFAULT | 1 << KVM_X86_TDP_ROOT_DROP | \
                 KEEP | QUOTA)

/* Returns false, with the test skipped or failed, if no KVM is to be used */
static bool have_kvm(void)
{
    if (!have_kvm_or_skip()) {
        return false;
    }
    uname(&host_uts);
    capability = kvm_cap(KVM_CAP_X86_TDP_ROOT_RETENTION);
    quirk = kvm_cap(KVM_CAP_DISABLE_QUIRKS2) & KVM_X86_QUIRK_SLOT_ZAP_ALL;
    return kvm_require(test_host_is("any") ||
                       test_host_is("retention") == (capability != 0),
                       CAP_NAME " is 0x%x on this KVM", capability);
}

/* Likewise, if KVM lacks @bits of the capability */
static bool have_capability(uint32_t bits)
{
    g_autofree char *tdp_mmu = NULL;

    if (!have_kvm()) {
        return false;
    }
    if (test_host_is("stock")) {
        g_test_skip("this KVM is to lack " CAP_NAME);
        return false;
    }
    g_file_get_contents("/sys/module/kvm/parameters/tdp_mmu", &tdp_mmu, NULL,
                        NULL);
    return kvm_require(capability, "this KVM lacks " CAP_NAME "%s",
                       tdp_mmu && *tdp_mmu == 'N' ? ": its TDP MMU is off" :
                       "") &&
        kvm_require((capability & bits) == bits, CAP_NAME " is 0x%x on this "
                    "KVM, 0x%x is needed", capability, bits);
}

/* Likewise, if the guest below does not run, or not as it should */
static bool have_guest(uint32_t bits)
{
    return have_capability(bits) && have_cap_or_skip(KVM_CAP_X86_SMM, 1) &&
        real_mode_runs_or_skip();
}

/* Likewise, if KVM has the capability, or can't do slot-zap=slot */
static bool have_stock(uint32_t unused)
{
    if (!have_kvm()) {
        return false;
    }
    if (capability) {
        g_test_skip("this KVM has " CAP_NAME);
        return false;
    }
    return kvm_require(quirk, "this KVM has no KVM_X86_QUIRK_SLOT_ZAP_ALL to "
                       "be disabled");
}

/* option/, kvm/contradiction/: runs of QEMU that are to end by themselves */

/*
 * QEMU must exit with status 1 after exactly this on its standard error, and,
 * if @err is set, after this failure of KVM.  If it accepts what it should not,
 * its monitor ends it.
 */
static void assert_refused(const char *accel, const char *message, int err)
{
    g_autofree char *command =
        g_strdup_printf("echo quit | %s -nodefaults -display none -M none -S "
                        "-monitor stdio -accel '%s'", qemu_binary, accel);
    g_autofree char *name = g_path_get_basename(qemu_binary);
    g_autofree char *prefix = g_strdup_printf("%s: -accel %s: ", name, accel);
    g_autoptr(GString) expected = g_string_new(NULL);
    const char *argv[] = { "/bin/sh", "-c", command, NULL };
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    int status;

    g_string_printf(expected, "%s%s\n", prefix, message);
    if (err) {
        g_string_append_printf(expected, "%sfailed to initialize kvm: %s\n",
                               prefix, strerror(err));
    }
    g_test_message("%s", command);
    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_STDOUT_TO_DEV_NULL, NULL,
                 NULL, NULL, &text, &status, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(text, ==, expected->str);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 1);
}

typedef struct Option {
    const char *accel;
    const char *message;
    int err;
} Option;

#define BAD_VALUE(prop, value) \
    "Parameter '" prop "' does not accept value '" value "'"
#define BAD_RANGE \
    "Parameter 'root-quota' expects a size of at least 1 byte and less than " \
    "8 EiB"

#define BAD(prop, value) { "kvm," prop "=" value, BAD_VALUE(prop, value) }
#define BAD_SIZE(value) \
    { "kvm,root-quota=" value, \
      "Parameter 'root-quota' expects a non-negative number below 2^64\n" \
      "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, " \
      "peta-\nand exabytes, respectively." }
#define OUT_OF_RANGE(value) \
    { "kvm,root-quota=" value, \
      "Value '" value "' is out of range for parameter 'root-quota'" }
#define UNKNOWN(accel, prop, value) \
    { accel "," prop "=" value, \
      "Property '" accel "-accel." prop "' not found" }

/* An accepted value gets as far as the KVM device, which is not there */
#define ACCEPTED(value) \
    { "kvm,device=nonexistent," value, "Could not access KVM kernel module: " \
      "No such file or directory", ENOENT }

static const Option options[] = {
    BAD("root-retention", "nonsense"),
    BAD("root-retention", "2"),
    BAD("root-retention", "KEEP"),
    BAD("root-retention", "kee"),
    BAD("root-retention", ""),
    { "kvm,root-retention=keep,root-retention=last",
      BAD_VALUE("root-retention", "last") },
    BAD("slot-zap", "none"),
    BAD("slot-zap", "on"),
    BAD("x-reset-elision", "maybe"),
    BAD("x-reset-elision", ""),
    { "kvm,x-slot-cuts=auto", "Parameter 'x-slot-cuts' expects 'on' or 'off'" },
    BAD_SIZE("64Q"),
    BAD_SIZE("all"),
    BAD_SIZE(""),
    OUT_OF_RANGE("-1"),
    OUT_OF_RANGE("16E"),
    { "kvm,root-quota=0", BAD_RANGE },
    { "kvm,root-quota=8E", BAD_RANGE },
    UNKNOWN("kvm", "root-retentoin", "keep"),
    /* what earlier versions had */
    UNKNOWN("kvm", "reset-elision", "on"),
    UNKNOWN("kvm", "slot-coalescing", "on"),
    UNKNOWN("kvm", "state-coalescing", "on"),
    UNKNOWN("kvm", "x-state-verify", "on"),
    /* what other accelerators don't have */
    UNKNOWN("tcg", "root-retention", "keep"),
    UNKNOWN("tcg", "root-quota", "64M"),
    UNKNOWN("tcg", "slot-zap", "slot"),
    UNKNOWN("tcg", "x-reset-elision", "on"),
    UNKNOWN("tcg", "x-slot-cuts", "on"),

    ACCEPTED("root-retention=auto"),
    ACCEPTED("root-retention=default"),
    ACCEPTED("root-retention=drop"),
    ACCEPTED("root-retention=keep"),
    ACCEPTED("root-retention=quota,root-quota=64M"),
    ACCEPTED("root-quota=1,root-retention=quota"),
    ACCEPTED("root-retention=quota,root-quota=7E"),
    ACCEPTED("slot-zap=auto"),
    ACCEPTED("slot-zap=all"),
    ACCEPTED("slot-zap=slot"),
    ACCEPTED("x-reset-elision=auto"),
    ACCEPTED("x-reset-elision=on"),
    ACCEPTED("x-reset-elision=off"),
    ACCEPTED("x-slot-cuts=on"),
    ACCEPTED("x-slot-cuts=off"),
    ACCEPTED("root-retention=quota,root-quota=4K,slot-zap=slot,"
             "x-reset-elision=off,x-slot-cuts=on"),

    /* No KVM takes these, and the last thing QEMU says is why. */
    { "kvm,root-retention=quota", "root-retention=quota needs root-quota=SIZE\n"
      "SIZE is what the page tables that no vCPU uses may hold, at least "
      "1 byte, for instance root-quota=64M.", ENOTSUP },
    { "kvm,root-quota=64M", "root-quota is for root-retention=quota, "
      "not for root-retention=auto", ENOTSUP },
    { "kvm,root-quota=64M,root-retention=keep", "root-quota is for "
      "root-retention=quota, not for root-retention=keep", ENOTSUP },
};

static const char *option_path(const Option *c)
{
    return c->err == ENOTSUP ? "kvm/contradiction" :
        c->err == ENOENT ? "option/accepted" : "option/refused";
}

static void test_option(const void *opaque)
{
    const Option *c = opaque;

    if (g_str_has_prefix(c->accel, "tcg,") && !qtest_has_accel("tcg")) {
        g_test_skip("no TCG in this QEMU");
    } else if (c->err != ENOTSUP || have_kvm()) {
        assert_refused(c->accel, c->message, c->err);
    }
}

/* Management software finds the properties without starting a guest */
static void test_introspection(void)
{
    static const char *const properties =
        " root-retention=KvmRootRetention root-quota=size slot-zap=KvmSlotZap"
        " x-reset-elision=OnOffAuto x-slot-cuts=bool ";
    QTestState *qts = qtest_init("-M none");
    QDict *response = qtest_qmp(qts, "{'execute': 'qom-list-properties',"
                                " 'arguments': {'typename': 'kvm-accel'}}");
    const QListEntry *entry;
    int found = 0;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(response, "return"), entry) {
        QDict *prop = qobject_to(QDict, qlist_entry_obj(entry));
        g_autofree char *text =
            g_strdup_printf(" %s=%s ", qdict_get_str(prop, "name"),
                            qdict_get_str(prop, "type"));

        if (strstr(properties, text)) {
            g_assert_true(qdict_haskey(prop, "description"));
            found++;
        }
    }
    g_assert_cmpint(found, ==, 5);
    qobject_unref(response);
    qtest_quit(qts);
}

/* The commands */

static QDict *query(QTestState *qts)
{
    return qtest_qmp_assert_success_ref(
        qts, "{'execute': 'query-kvm-root-retention'}");
}

/* @arguments is JSON, @error is what has to come of it, or NULL */
static void set(QTestState *qts, const char *arguments, const char *error)
{
    QDict *response =
        qtest_qmp(qts, "{'execute': 'set-kvm-root-retention',"
                  " 'arguments': %p}",
                  qobject_from_json(arguments, &error_abort));
    QDict *failure = qdict_get_qdict(response, "error");

    g_test_message("%s", arguments);
    g_assert_cmpstr(failure ? qdict_get_str(failure, "desc") : NULL, ==, error);
    if (failure) {
        g_assert_cmpstr(qdict_get_str(failure, "class"), ==, "GenericError");
    } else {
        g_assert_cmpint(qdict_size(qdict_get_qdict(response, "return")), ==, 0);
    }
    qobject_unref(response);
}

#define BAD_TYPE(name, type) \
    "Invalid parameter type for '" name "', expected: " type
#define UNEXPECTED(name)        "Parameter '" name "' is unexpected"
#define MISSING(name)           "Parameter '" name "' is missing"
#define NO_NUMBER               "Parameter 'root-quota' expects uint64"

#define WITH(retention, more) \
    "{'root-retention': '" retention "', " more "}"
#define QUOTA_OF(size)          WITH("quota", "'root-quota': " size)
#define ZAP(retention, what)    WITH(retention, "'slot-zap': '" what "'")

/* What is wrong by itself is refused on any host */
static void assert_nonsense_refused(QTestState *qts)
{
    static const char *const cases[][2] = {
        { "{}", MISSING("root-retention") },
        { "{'slot-zap': 'slot'}", MISSING("root-retention") },
        { "{'root-quota': 4096}", MISSING("root-retention") },
        { "{'root-retention': 'bad'}", BAD_VALUE("root-retention", "bad") },
        { "{'root-retention': ''}", BAD_VALUE("root-retention", "") },
        { "{'root-retention': 'KEEP'}", BAD_VALUE("root-retention", "KEEP") },
        { "{'root-retention': 2}", BAD_TYPE("root-retention", "string") },
        { "{'root-retention': null}", BAD_TYPE("root-retention", "string") },
        { "{'root-retention': 'quota'}", MISSING("root-quota") },
        { QUOTA_OF("'64M'"), NO_NUMBER },
        { QUOTA_OF("0.5"), NO_NUMBER },
        { QUOTA_OF("true"), NO_NUMBER },
        { WITH("auto", "'root-quota': 1"), UNEXPECTED("root-quota") },
        { WITH("keep", "'root-quota': 1"), UNEXPECTED("root-quota") },
        { WITH("keep", "'slot-zap': 'bad'"), BAD_VALUE("slot-zap", "bad") },
        { WITH("keep", "'slot-zap': [1]"), BAD_TYPE("slot-zap", "string") },
        { WITH("keep", "'root-retentoin': 'keep'"),
          UNEXPECTED("root-retentoin") },
        { WITH("keep", "'reset-elision': 'on'"), UNEXPECTED("reset-elision") },
        { WITH("keep", "'slot-coalescing': 'off'"),
          UNEXPECTED("slot-coalescing") },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        set(qts, cases[i][0], cases[i][1]);
    }
}

/* no-kvm/: the commands where there is no KVM */

#define NEEDS_KVM       "KVM root retention needs the accelerator KVM"

static void test_no_kvm(const void *opaque)
{
    const char *accel = opaque;
    g_autofree char *info = NULL;
    QDict *error;
    QTestState *qts;

    if (!g_str_equal(accel, "qtest") && !qtest_has_accel(accel)) {
        g_test_skip("not in this QEMU");
        return;
    }

    /* libqtest adds -accel qtest, which is for a QEMU that has no other. */
    qts = qtest_initf("-accel %s -M none", accel);
    error = qtest_qmp_assert_failure_ref(
        qts, "{'execute': 'query-kvm-root-retention'}");
    g_assert_cmpstr(qdict_get_str(error, "class"), ==, "GenericError");
    g_assert_cmpstr(qdict_get_str(error, "desc"), ==, NEEDS_KVM);
    set(qts, "{'root-retention': 'default'}", NEEDS_KVM);
    set(qts, QUOTA_OF("0"), NEEDS_KVM);
    assert_nonsense_refused(qts);
    info = qtest_hmp(qts, "info kvm-roots");
    g_assert_cmpstr(info, ==, "Error: " NEEDS_KVM "\r\n");
    qobject_unref(error);
    qtest_quit(qts);
}

/* kvm/: what takes effect on a real host */

#define GUEST_RESETS    64

/*
 * A firmware that makes KVM reset the vCPU's MMU GUEST_RESETS times by toggling
 * CR4.PSE, which changes no role of a TDP root, goes to SMM and back, i.e. to
 * another root, and does that again.
 */
static const uint8_t firmware_code[] = {
    0xb8, 0x00, 0x30, 0x8e, 0xd8,               /*    ds = 0x3000             */
    0xc7, 0x06, 0x00, 0x80, 0x0f, 0xaa,         /*    movw $rsm, 0x8000       */
    0x66, 0xb9, 0x1b, 0x00, 0x00, 0x00,         /*    mov $APIC_BASE, %ecx    */
    0x0f, 0x32, 0x0d, 0x00, 0x0c,               /*    rdmsr; or $X2APIC, %ax  */
    0x0f, 0x30,                                 /*    wrmsr                   */
    0xb9, GUEST_RESETS, 0x00,                   /* 1: mov $GUEST_RESETS, %cx  */
    0x0f, 0x20, 0xe0,                           /* 2: mov %cr4, %eax          */
    0x34, 0x10,                                 /*    xor $0x10, %al          */
    0x0f, 0x22, 0xe0,                           /*    mov %eax, %cr4          */
    0xe2, 0xf6,                                 /*    loop 2b                 */
    0x66, 0xb8, 0x00, 0x42, 0x04, 0x00,         /*    mov $SMI_TO_SELF, %eax  */
    0x66, 0x31, 0xd2,                           /*    xor %edx, %edx          */
    0x66, 0xb9, 0x30, 0x08, 0x00, 0x00,         /*    mov $X2APIC_ICR, %ecx   */
    0x0f, 0x30, 0xeb, 0xe0,                     /*    wrmsr; jmp 1b           */
};

#define GUEST   QUIET_CPU " -m 64 -nodefaults -vga none"

static QTestState *start(const char *accel, const char *machine)
{
    g_autofree char *log = tmp_path("log");

    unlink(log);
    return qtest_initf("-accel kvm%s " GUEST " -bios %s -M %s -D %s "
                       "-trace 'kvm_root_*'", accel, firmware, machine, log);
}

/* What KVM was told since the start: "policy/flags/quota" each time */
static void assert_told(const char *expected)
{
    g_autofree char *log = read_tmp("log");
    g_autoptr(GString) told = g_string_new(NULL);

    for (char *at = log; (at = strstr(at, "kvm_root_enable_cap")); at++) {
        unsigned int policy, flags, quota;
        int ret;

        g_assert_cmpint(sscanf(at, "kvm_root_enable_cap policy %u flags 0x%x "
                               "quota %u pages: %d", &policy, &flags, &quota,
                               &ret), ==, 4);
        g_assert_cmpint(ret, ==, 0);
        g_string_append_printf(told, "%s%u/%u/%u", told->len ? " " : "",
                               policy, flags, quota);
    }
    g_assert_cmpstr(told->str, ==, expected);
}

#define AUTO            "auto,auto"
#define NOTHING         "default,all,off"
#define KEPT            "keep,slot,on"

/*
 * What was asked for, if it is not NULL, and what is in effect, as QMP tells
 * it: "retention,slot-zap" and "policy,slot-zap,reset-elision", with a quota
 * behind the policy.
 */
static void assert_setting(QTestState *qts, const char *requested,
                           const char *effective)
{
    QDict *info = query(qts);

    for (int i = !requested; i < 2; i++) {
        QDict *s = qdict_get_qdict(info, i ? "effective" : "requested");
        g_autoptr(GString) text = g_string_new(
            qdict_get_str(s, i ? "policy" : "root-retention"));

        if (qdict_haskey(s, "root-quota")) {
            g_string_append_printf(text, ":%" PRId64,
                                   qdict_get_int(s, "root-quota"));
        }
        g_string_append_printf(text, ",%s%s", qdict_get_str(s, "slot-zap"),
                               !i ? "" : qdict_get_bool(s, "reset-elision") ?
                               ",on" : ",off");
        g_assert_cmpstr(text->str, ==, i ? effective : requested);
    }
    qobject_unref(info);
}

/* -1 if KVM has no statistic of that name */
static int64_t get_stat(QTestState *qts, const char *target, const char *name)
{
    QDict *response =
        qtest_qmp(qts, "{'execute': 'query-stats', 'arguments': {"
                  " 'target': %s, 'providers': ["
                  "  {'provider': 'kvm', 'names': [%s]}]}}", target, name);
    QList *results = qdict_get_qlist(response, "return");
    int64_t value = -1;

    g_assert_nonnull(results);
    if (!qlist_empty(results)) {
        QDict *result = qobject_to(QDict, qlist_peek(results));
        QList *stats = qdict_get_qlist(result, "stats");
        QDict *stat = qobject_to(QDict, qlist_peek(stats));

        g_assert_cmpint(qlist_size(stats), ==, 1);
        g_assert_cmpstr(qdict_get_str(stat, "name"), ==, name);
        value = qdict_get_int(stat, "value");
    }
    qobject_unref(response);
    return value;
}

/* Wait until it has grown by this much */
static void wait_for_stat(QTestState *qts, const char *target,
                          const char *name, int64_t by)
{
    gint64 end = g_get_monotonic_time() + TIMEOUT_US;
    int64_t first = get_stat(qts, target, name), value;

    g_assert_cmpint(first, >=, 0);
    while ((value = get_stat(qts, target, name)) < first + by) {
        if (g_get_monotonic_time() > end) {
            g_error("%s was %" PRId64 " and is %" PRId64 " now", name, first,
                    value);
        }
        g_usleep(10000);
    }
}

/*
 * Let the guest go through SMM @times more.  Each time counts some more resets
 * than those of CR4.PSE.
 */
static void run_guest(QTestState *qts, unsigned int times)
{
    wait_for_stat(qts, "vcpu", "mmu_resets", times * 2 * GUEST_RESETS);
}

#define EVICTIONS       "tdp_root_evictions"

/* A guest that resets its MMU costs what the policy says */
static void assert_costs(QTestState *qts, bool elides, bool evicts)
{
    int64_t loads, allocs, evictions, elided;

    run_guest(qts, 4);
    if (evicts) {
        /* By a worker, in its own time. */
        wait_for_stat(qts, "vm", EVICTIONS, 4);
    }
    qtest_qmp_assert_success(qts, "{'execute': 'stop'}");
    elided = get_stat(qts, "vcpu", "mmu_resets_elided");
    loads = get_stat(qts, "vcpu", "mmu_root_loads");
    allocs = get_stat(qts, "vm", "tdp_root_allocs");
    evictions = get_stat(qts, "vm", EVICTIONS);
    g_test_message("elided %" PRId64 " loads %" PRId64 " allocated %" PRId64
                   " evicted %" PRId64, elided, loads, allocs, evictions);

    if (elides) {
        g_assert_cmpint(elided, >=, 4 * GUEST_RESETS);
        /* Creating the vCPU and its first entry cost a few, too. */
        g_assert_cmpint(loads, <=, GUEST_RESETS / 4 + 2 * evictions);
    } else {
        g_assert_cmpint(elided, ==, 0);
        g_assert_cmpint(loads, >=, 4 * GUEST_RESETS);
    }
    /* One of SMM, and one of not. */
    g_assert_cmpint(allocs, >=, 2);
    if (!evicts) {
        g_assert_cmpint(evictions, ==, 0);
    }
}

static bool have_hyperv(void)
{
    return have_cap_or_skip(KVM_CAP_HYPERV, 1) &&
        have_cap_or_skip(KVM_CAP_HYPERV_TIME, 1) &&
        have_cap_or_skip(KVM_CAP_HYPERV_SPIN, 1) &&
        have_cap_or_skip(KVM_CAP_HYPERV_VP_INDEX, 1) &&
        have_cap_or_skip(KVM_CAP_HYPERV_SYNIC2, 1) &&
        have_cap_or_skip(KVM_CAP_HYPERV_TLBFLUSH, 1) &&
        have_cap_or_skip(KVM_CAP_HYPERV_SEND_IPI, 1);
}

static bool have_xen(void)
{
    return have_cap_or_skip(KVM_CAP_XEN_HVM, 1);
}

typedef struct Effect {
    const char *name;
    const char *accel;
    const char *machine;
    const char *stock;          /* what is in effect, NULL: it is refused */
    const char *retention;
    const char *told;
    bool (*have)(void);
} Effect;

#define R               ",root-retention="
#define R_QUOTA         R "quota,root-quota="
#define NO_ELISION      ",x-reset-elision=off"

static const Effect effects[] = {
    { "auto", "", "q35", NOTHING, KEPT, "2/3/0" },
    { "auto-pc", "", "pc", NOTHING, KEPT, "2/3/0" },
    /* What a VFIO device may be plugged into makes no difference */
    { "auto-root-port", "", "q35 -device pcie-root-port",
      NOTHING, KEPT, "2/3/0" },
    /* What else KVM does for the guest makes none, too */
    { "auto-hyperv", "", "q35 -cpu max,hv-relaxed,hv-vapic,hv-spinlocks=8191,"
      "hv-time,hv-vpindex,hv-runtime,hv-synic,hv-stimer,hv-tlbflush,hv-ipi",
      NOTHING, KEPT, "2/3/0", have_hyperv },
    { "auto-xen", ",xen-version=0x4000a,kernel-irqchip=split", "q35",
      NOTHING, KEPT, "2/3/0", have_xen },
    { "default", R "default", "q35", NOTHING, NOTHING, "" },
    { "default-elision", R "default,x-reset-elision=on", "q35",
      NULL, "default,all,on", "0/1/0" },
    { "default-slot", R "default,slot-zap=slot", "q35",
      "default,slot,off", "default,slot,off", "0/2/0" },
    { "drop", R "drop", "q35", NULL, "drop,all,off", "1/0/0" },
    { "drop-elision", R "drop,x-reset-elision=on", "q35",
      NULL, "drop,all,on", "1/1/0" },
    { "keep", R "keep", "q35", NULL, KEPT, "2/3/0" },
    { "keep-no-elision", R "keep" NO_ELISION, "q35",
      NULL, "keep,slot,off", "2/2/0" },
    { "keep-all", R "keep,slot-zap=all", "q35", NULL, "keep,all,on", "2/1/0" },
    { "keep-slot-pc", R "keep,slot-zap=slot", "pc", NULL, KEPT, "2/3/0" },
    { "quota", R_QUOTA "64M", "q35",
      NULL, "quota:67108864,slot,on", "3/3/16384" },
    { "quota-no-elision", R_QUOTA "1M" NO_ELISION, "q35",
      NULL, "quota:1048576,slot,off", "3/2/256" },
    /* A root of this guest takes more than a page */
    { "quota-small", ",root-quota=4K" R "quota", "q35",
      NULL, "quota:4096,slot,on", "3/3/1" },
    { "quota-small-no-elision", R_QUOTA "1" NO_ELISION, "q35",
      NULL, "quota:4096,slot,off", "3/2/1" },
};

/* The bits of the capability without which that can't be in effect */
static uint32_t needed_for(const Effect *c)
{
    unsigned int policy = 0, flags = 0;

    sscanf(c->told, "%u/%u", &policy, &flags);
    return 1 << policy | flags << KVM_X86_TDP_ROOT_FLAGS_SHIFT;
}

static void assert_lacks_capability(const Effect *c)
{
    bool policy = !g_str_has_prefix(c->retention, "default");
    g_autofree char *accel = g_strconcat("kvm", c->accel, NULL);
    g_autofree char *message = g_strdup_printf(
        "%s%.*s needs " CAP_NAME ", which host kernel %s does not offer\n"
        "The capability takes a kernel that has the TDP root retention "
        "patches, and a KVM whose TDP MMU is on (module parameters "
        "tdp_mmu, and ept or npt).\nThis host takes %s.",
        policy ? "root-retention=" : "x-reset-elision=on",
        policy ? (int)strcspn(c->retention, ":,") : 0, c->retention,
        host_uts.release, policy ? "root-retention=auto|default" :
        "x-reset-elision=auto|off");

    assert_refused(accel, message, ENOTSUP);
}

/* KVM is told once, when the VM is created */
static void test_effect(const void *opaque)
{
    const Effect *c = opaque;
    g_autofree char *machine = g_strconcat(c->machine, " -S", NULL);
    const char *expected;
    QTestState *qts;

    if (!have_kvm() || (c->have && !c->have()) ||
        (capability && !have_capability(needed_for(c)))) {
        return;
    }
    expected = capability ? c->retention : c->stock;
    if (!expected) {
        assert_lacks_capability(c);
    } else if (capability || !strstr(expected, ",slot,") || have_stock(0)) {
        qts = start(c->accel, machine);
        assert_setting(qts, NULL, expected);
        assert_told(capability ? c->told : "");
        qtest_quit(qts);
    }
}

static void test_guest(const void *opaque)
{
    const Effect *c = opaque;
    QTestState *qts;

    if (!have_guest(needed_for(c))) {
        return;
    }
    qts = start(c->accel, c->machine);
    assert_costs(qts, g_str_has_suffix(c->retention, ",on"),
                 g_str_has_prefix(c->retention, "drop,") ||
                 g_str_has_prefix(c->retention, "quota:4096,"));
    assert_setting(qts, NULL, c->retention);
    qtest_quit(qts);
}

/*
 * The kernel's statistics are in query-stats under the kernel's own names.  A
 * kernel that has the capability, but not for this VM (the TDP MMU is off),
 * has them too, and no root to count.
 */
static void test_stats(void)
{
    static const char *const names[][2] = {
        { "vm", "tdp_root_pages" }, { "vm", "tdp_root_allocs" },
        { "vm", EVICTIONS }, { "vcpu", "mmu_resets" },
        { "vcpu", "mmu_resets_elided" }, { "vcpu", "mmu_root_loads" },
    };
    QTestState *qts;
    int64_t roots;

    if (!have_kvm() || !real_mode_runs_or_skip()) {
        return;
    }
    qts = start("", "q35");
    wait_for_stat(qts, "vcpu", "exits", GUEST_RESETS);
    roots = get_stat(qts, "vm", "tdp_roots");
    g_assert_cmpint(roots > 0, ==, capability != 0);
    for (int i = 0; i < ARRAY_SIZE(names); i++) {
        g_assert_cmpint(get_stat(qts, names[i][0], names[i][1]) >= 0, ==,
                        roots >= 0);
    }
    qtest_quit(qts);
}

static void assert_host(QTestState *qts, const char *json)
{
    QObject *expected = qobject_from_json(json, &error_abort);
    QDict *info = query(qts);
    QObject *host = qdict_get(info, "host");
    g_autoptr(GString) text = qobject_to_json(host);

    g_test_message("%s", text->str);
    g_assert_true(qobject_is_equal(host, expected));
    qobject_unref(expected);
    qobject_unref(info);
}

#define INFO(policy, slot_zap, elision, policies) \
    "                  asked for   in effect\r\n" \
    "root-retention    auto        " policy "\r\n" \
    "root-quota        -           -\r\n" \
    "slot-zap          auto        " slot_zap "\r\n" \
    "reset-elision                 " elision "\r\n" \
    "the host offers   " policies "\r\n"

/* What the host offers is told as it is */
static void test_query(void)
{
    g_autofree char *text = NULL;
    QTestState *qts;

    if (!have_kvm() || (capability && !have_capability(ALL))) {
        return;
    }
    qts = start("", "q35 -S");
    assert_setting(qts, AUTO, capability ? KEPT : NOTHING);
    assert_host(qts, capability ?
                "{'policies': ['default', 'drop', 'keep', 'quota'],"
                " 'slot-zap': ['all', 'slot'], 'slot-zap-revocable': true,"
                " 'reset-elision': true}" : quirk ?
                "{'policies': ['default'], 'slot-zap': ['all', 'slot'],"
                " 'slot-zap-revocable': false, 'reset-elision': false}" :
                "{'policies': ['default'], 'slot-zap': ['all'],"
                " 'slot-zap-revocable': false, 'reset-elision': false}");
    text = qtest_hmp(qts, "info kvm-roots");
    g_assert_cmpstr(text, ==, capability ?
                    INFO("keep", "slot", "on", "default|drop|keep|quota") :
                    INFO("default", "all", "off", "default"));
    qtest_quit(qts);
}

/*
 * A change that is refused leaves all as it was, whatever else it asks for.  A
 * kernel that is to do what it does anyway is not told so.
 */
static void test_set_refused(void)
{
    g_autofree char *log = NULL, *offer = NULL;
    QTestState *qts;

    if (!have_kvm()) {
        return;
    }
    qts = start(",root-retention=default", "q35 -S");
    assert_nonsense_refused(qts);
    set(qts, QUOTA_OF("0"), BAD_RANGE);
    set(qts, QUOTA_OF("-1"), BAD_RANGE);
    set(qts, "{'root-retention': 'quota', 'slot-zap': 'slot',"
        " 'root-quota': 9223372036854775808}", BAD_RANGE);
    assert_setting(qts, "default,auto", NOTHING);
    set(qts, ZAP("default", "all"), NULL);
    assert_setting(qts, "default,all", NOTHING);
    assert_told("");

    log = read_tmp("log");
    offer = g_strdup_printf("kvm_root_offer capability 0x%x slot quirk %d\n",
                            capability, quirk);
    g_assert_nonnull(strstr(log, offer));
    g_assert_nonnull(strstr(log, "kvm_root_effect policy default quota 0 pages "
                            "slot-zap=all reset elision 0\n"));
    qtest_quit(qts);
}

/* What a host without the capability can't give, and what it can for good */
static void test_set_stock(void)
{
    g_autofree char *no_keep = g_strdup_printf(
        "root-retention=keep needs " CAP_NAME ", which host kernel %s does not "
        "offer", host_uts.release);
    g_autofree char *no_quota = g_strdup_printf(
        "root-retention=quota needs " CAP_NAME ", which host kernel %s does "
        "not offer", host_uts.release);
    g_autofree char *no_return = g_strdup_printf(
        "slot-zap=all: slot-zap=slot is in effect through "
        "KVM_CAP_DISABLE_QUIRKS2, and host kernel %s can't be told to go back",
        host_uts.release);
    QTestState *qts = start("", "q35 -S");

    set(qts, ZAP("keep", "slot"), no_keep);
    set(qts, QUOTA_OF("1"), no_quota);
    assert_setting(qts, AUTO, NOTHING);

    set(qts, ZAP("auto", "slot"), NULL);
    assert_setting(qts, "auto,slot", "default,slot,off");
    assert_host(qts, "{'policies': ['default'], 'slot-zap': ['slot'],"
                " 'slot-zap-revocable': false, 'reset-elision': false}");
    set(qts, ZAP("default", "all"), no_return);
    assert_setting(qts, "auto,slot", "default,slot,off");
    set(qts, ZAP("default", "auto"), NULL);
    assert_setting(qts, "default,auto", "default,slot,off");
    assert_told("");
    qtest_quit(qts);
}

/* KVM is told once per change, and what is not in it stays as it was */
static void test_set_sequence(void)
{
    static const char *const steps[][3] = {
        { "{'root-retention': 'keep'}", "keep,all", "keep,all,on" },
        { "{'root-retention': 'default'}", "default,all", NOTHING },
        { ZAP("auto", "auto"), AUTO, KEPT },
        { "{'root-retention': 'auto'}", AUTO, KEPT },
        { "{'root-retention': 'drop'}", "drop,auto", "drop,all,off" },
        { "{'root-retention': 'quota', 'root-quota': 1048576,"
          " 'slot-zap': 'all'}", "quota:1048576,all", "quota:1048576,all,on" },
        { ZAP("default", "slot"),
          "default,slot", "default,slot,off" },
        { "{'root-retention': 'drop'}", "drop,slot", "drop,slot,off" },
        { "{'root-retention': 'quota', 'root-quota': 5000,"
          " 'slot-zap': 'auto'}", "quota:5000,auto", "quota:8192,slot,on" },
    };
    g_autofree char *info = NULL, *log = NULL;
    QTestState *qts = start(",root-retention=default,slot-zap=all", "q35 -S");

    for (int i = 0; i < ARRAY_SIZE(steps); i++) {
        set(qts, steps[i][0], NULL);
        assert_setting(qts, steps[i][1], steps[i][2]);
    }
    info = qtest_hmp(qts, "info kvm-roots");
    g_assert_nonnull(strstr(info, "root-quota        4.88 KiB    8 KiB\r\n"));
    assert_told("2/1/0 0/0/0 2/3/0 2/3/0 1/0/0 3/1/256 0/2/0 1/2/0 3/3/2");
    log = read_tmp("log");
    g_assert_nonnull(strstr(log, "kvm_root_effect policy quota quota 2 pages "
                            "slot-zap=slot reset elision 1\n"));
    qtest_quit(qts);

    qts = start(",x-reset-elision=on", "q35 -S");
    set(qts, "{'root-retention': 'drop'}", NULL);
    assert_setting(qts, "drop,auto", "drop,all,on");
    qtest_quit(qts);
}

/*
 * A guest that resets its MMU all the time feels each change at once.  A quota
 * that is too small shows to who polls the statistic of evictions.
 */
static void test_set_running(void)
{
    static const struct {
        const char *arguments;
        const char *target, *grows;
        int64_t by;
    } steps[] = {
        { "{'root-retention': 'keep'}", "vcpu", "mmu_resets_elided",
          GUEST_RESETS },
        { "{'root-retention': 'drop'}", "vm", EVICTIONS, 4 },
        { "{'root-retention': 'default'}", "vcpu", "mmu_root_loads",
          GUEST_RESETS },
        { QUOTA_OF("1"), "vm", EVICTIONS, 4 },
    };
    QTestState *qts = start("", "q35");
    int64_t last, now;
    gint64 end;

    g_assert_cmpint(get_stat(qts, "vm", EVICTIONS), ==, 0);
    for (int i = 0; i < 2 * ARRAY_SIZE(steps); i++) {
        int j = i % ARRAY_SIZE(steps);

        set(qts, steps[j].arguments, NULL);
        wait_for_stat(qts, steps[j].target, steps[j].grows, steps[j].by);
    }

    /* Evictions end with the policy, though a worker may be at one yet. */
    set(qts, "{'root-retention': 'keep'}", NULL);
    end = g_get_monotonic_time() + TIMEOUT_US;
    now = get_stat(qts, "vm", EVICTIONS);
    do {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        last = now;
        run_guest(qts, 2);
        now = get_stat(qts, "vm", EVICTIONS);
    } while (now != last);
    qtest_quit(qts);
}

/* slot-zap, as the deletion of a slot shows it: roots that were made anew */

/* A graphics card whose memory is switched on and off */
#define VGA     " -device VGA,addr=3,romfile="

static void pci_config_write(QTestState *qts, uint8_t reg, uint32_t value)
{
    qtest_outl(qts, 0xcf8, 0x80000000 | 3 << 11 | reg);
    qtest_outl(qts, 0xcfc, value);
}

static int64_t roots_lost(QTestState *qts)
{
    int64_t before;

    /* After this the guest has loaded all of its roots. */
    run_guest(qts, 1);
    before = get_stat(qts, "vm", "tdp_root_allocs");
    pci_config_write(qts, PCI_BASE_ADDRESS_0, 0xe0000000);
    pci_config_write(qts, PCI_COMMAND, PCI_COMMAND_MEMORY);
    pci_config_write(qts, PCI_COMMAND, 0);
    run_guest(qts, 1);
    return get_stat(qts, "vm", "tdp_root_allocs") - before;
}

static void test_slot_zap(void)
{
    QTestState *qts = start("", "q35" VGA);

    g_assert_cmpint(roots_lost(qts), ==, 0);
    set(qts, ZAP("auto", "all"), NULL);
    g_assert_cmpint(roots_lost(qts), >, 0);
    set(qts, ZAP("auto", "slot"), NULL);
    g_assert_cmpint(roots_lost(qts), ==, 0);
    qtest_quit(qts);
}

/*
 * VFIO: with the kernel's sample of a mediated device, a serial card, which
 * needs neither hardware nor an IOMMU.  It can't unmask INTx by itself, and
 * QEMU would warn.
 */
#define MTTY            "/sys/devices/virtual/mtty/mtty"
#define MTTY_UUID       "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
#define MTTY_DEVICE     "/sys/bus/mdev/devices/" MTTY_UUID
#define COLDPLUG        " -device vfio-pci,x-no-kvm-intx=on,sysfsdev=" \
                        MTTY_DEVICE

static bool write_sysfs(const char *path, const char *value)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, value, strlen(value)) == strlen(value);

    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

static bool have_mtty(void)
{
    if (access(MTTY_DEVICE, F_OK) == 0 ||
        write_sysfs(MTTY "/mdev_supported_types/mtty-1/create", MTTY_UUID)) {
        return true;
    }
    g_test_skip("no mtty, the kernel's sample of a VFIO device, on this host");
    return false;
}

static QTestState *start_with_vfio(const char *accel, const char *machine)
{
    g_autofree char *path = tmp_path("stderr");
    g_autofree char *args = g_strdup_printf("%s 2>%s", machine, path);

    return start(accel, args);
}

/* mtty can't be reset, and QEMU says so, but nothing else. */
static void quit_with_vfio(QTestState *qts)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    qtest_quit(qts);
    text = read_tmp("stderr");
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (!strstr(*line, "no available reset mechanism")) {
            g_assert_cmpstr(*line, ==, "");
        }
    }
}

static void test_vfio_coldplug(void)
{
    QTestState *qts;

    if (!have_mtty()) {
        return;
    }
    qts = start_with_vfio("", "q35 -S" COLDPLUG);
    assert_setting(qts, AUTO, "keep,all,on");
    assert_told("2/3/0 2/1/0");
    quit_with_vfio(qts);

    qts = start_with_vfio(",slot-zap=slot", "q35 -S" COLDPLUG);
    assert_setting(qts, "auto,slot", KEPT);
    assert_told("2/3/0");
    quit_with_vfio(qts);
    write_sysfs(MTTY_DEVICE "/remove", "1");
}

static void hotplug(QTestState *qts)
{
    qtest_qmp_assert_success(
        qts, "{'execute': 'device_add', 'arguments': {"
        " 'driver': 'vfio-pci', 'id': 'assigned', 'addr': '5',"
        " 'x-no-kvm-intx': true, 'sysfsdev': %s}}", MTTY_DEVICE);
}

static void test_vfio_hotplug(void)
{
    QTestState *qts;

    if (!have_mtty()) {
        return;
    }
    qts = start_with_vfio("", "pc" VGA);
    assert_setting(qts, AUTO, KEPT);
    g_assert_cmpint(roots_lost(qts), ==, 0);
    hotplug(qts);
    assert_setting(qts, AUTO, "keep,all,on");
    assert_told("2/3/0 2/1/0");
    g_assert_cmpint(roots_lost(qts), >, 0);

    /* A change of something else does not forget the device. */
    set(qts, QUOTA_OF("1048576"), NULL);
    assert_setting(qts, "quota:1048576,auto", "quota:1048576,all,on");
    set(qts, "{'root-retention': 'auto'}", NULL);

    /* It stays so when the device is gone.  The guest ejects it with ACPI. */
    qtest_qmp_device_del_send(qts, "assigned");
    qtest_outl(qts, 0xae08, 1 << 5);
    qtest_qmp_eventwait(qts, "DEVICE_DELETED");
    assert_setting(qts, AUTO, "keep,all,on");
    g_assert_cmpint(roots_lost(qts), >, 0);
    assert_told("2/3/0 2/1/0 3/1/256 2/1/0");

    /* What is asked for by name stands, and with another device, too. */
    set(qts, ZAP("auto", "slot"), NULL);
    assert_setting(qts, "auto,slot", KEPT);
    hotplug(qts);
    assert_setting(qts, "auto,slot", KEPT);
    g_assert_cmpint(roots_lost(qts), ==, 0);
    set(qts, ZAP("auto", "auto"), NULL);
    assert_setting(qts, AUTO, "keep,all,on");
    assert_told("2/3/0 2/1/0 3/1/256 2/1/0 2/3/0 2/1/0");
    quit_with_vfio(qts);
    write_sysfs(MTTY_DEVICE "/remove", "1");
}

/* A device that fails before KVM hears of VFIO changes nothing */
static void test_vfio_failing(void)
{
    QTestState *qts = start("", "q35 -S -device pcie-root-port,id=rp0");

    qobject_unref(qtest_qmp_assert_failure_ref(
        qts, "{'execute': 'device_add', 'arguments': {"
        " 'driver': 'vfio-pci', 'bus': 'rp0', 'host': 'ffff:00:00.0'}}"));
    assert_setting(qts, AUTO, KEPT);
    assert_told("2/3/0");
    qtest_quit(qts);
}

/* Migration, snapshots, resets */

/* Each policy as what -accel kvm and set-kvm-root-retention take */
static const struct {
    const char *accel, *arguments, *effective;
} policies[] = {
    { ",root-retention=default", "{'root-retention': 'default'}", NOTHING },
    { ",root-retention=drop", "{'root-retention': 'drop'}", "drop,all,off" },
    { ",root-retention=keep", "{'root-retention': 'keep'}", KEPT },
    { ",root-retention=quota,root-quota=4K",
      QUOTA_OF("4096"), "quota:4096,slot,on" },
};

/* From each policy to each: what follows what in a De Bruijn sequence */
static const int policy_tour[] = {
    0, 0, 1, 0, 2, 0, 3, 1, 1, 2, 1, 3, 2, 2, 3, 3, 0,
};

/* A migration that is too slow to end */
static void test_set_migrating(void)
{
    g_autofree char *path = tmp_path("migration");
    g_autofree char *uri = g_strconcat("file:", path, NULL);
    QTestState *qts = start("", "q35");

    qtest_qmp_assert_success(qts, "{'execute': 'migrate-set-parameters',"
                             " 'arguments': {'max-bandwidth': 100}}");
    qtest_qmp_assert_success(qts, "{'execute': 'migrate',"
                             " 'arguments': {'uri': %s}}", uri);
    wait_for_migration(qts, "active");
    set(qts, "{'root-retention': 'quota', 'root-quota': 4096,"
        " 'slot-zap': 'all'}", NULL);
    assert_setting(qts, "quota:4096,all", "quota:4096,all,on");
    set(qts, ZAP("drop", "slot"), NULL);
    assert_setting(qts, "drop,slot", "drop,slot,off");
    wait_for_migration(qts, "active");
    qtest_qmp_assert_success(qts, "{'execute': 'migrate_cancel'}");
    wait_for_migration(qts, "cancelled");
    qtest_quit(qts);
}

static void migrate(QTestState *from, QTestState *to, const char *uri)
{
    qtest_qmp_assert_success(from, "{'execute': 'migrate',"
                             " 'arguments': {'uri': %s}}", uri);
    wait_for_migration(from, "completed");
    qtest_qmp_eventwait(to, "RESUME");
}

/*
 * The policy is each host's own matter, and no part of the stream.  One half
 * of the destinations is told theirs on the command line, the other one while
 * it waits for the stream.
 */
static void test_migration_every_pair(void)
{
    g_autofree char *path = tmp_path("migration");
    g_autofree char *uri = g_strconcat("unix:", path, NULL);
    g_autofree char *machine = g_strdup_printf("q35 -incoming %s", uri);
    QTestState *from = start(policies[policy_tour[0]].accel, "q35"), *to;

    run_guest(from, 1);
    for (int i = 1; i < ARRAY_SIZE(policy_tour); i++) {
        int last = policy_tour[i - 1], policy = policy_tour[i];

        g_test_message("%s to %s", policies[last].effective,
                       policies[policy].effective);
        unlink(path);
        to = start(i % 2 ? policies[policy].accel : "", machine);
        if (i % 2 == 0) {
            set(to, policies[policy].arguments, NULL);
        }
        migrate(from, to, uri);
        assert_setting(from, NULL, policies[last].effective);
        assert_setting(to, NULL, policies[policy].effective);
        run_guest(to, 1);
        qtest_quit(from);
        from = to;
    }
    qtest_quit(from);
}

/* To a QEMU that knows nothing of all this, whatever was in effect */
static void test_migration_unmodified(void)
{
    g_autofree char *path = tmp_path("migration");
    g_autofree char *uri = g_strconcat("unix:", path, NULL);
    g_autofree char *args = g_strdup_printf(
        "-accel kvm " GUEST " -bios %s -M q35 -incoming %s", firmware, uri);
    const char *binary = g_getenv("QTEST_QEMU_BINARY_DST");
    QTestState *from, *to;

    if (!binary || access(binary, X_OK) < 0) {
        g_test_skip("no other QEMU in QTEST_QEMU_BINARY_DST");
        return;
    }
    for (int i = 0; i < ARRAY_SIZE(policies); i++) {
        QDict *error;

        unlink(path);
        from = start(policies[i].accel, "q35");
        run_guest(from, 1);
        to = qtest_init_ext("QTEST_QEMU_BINARY_DST", args, NULL, true);
        error = qtest_qmp_assert_failure_ref(
            to, "{'execute': 'query-kvm-root-retention'}");
        g_assert_cmpstr(qdict_get_str(error, "class"), ==, "CommandNotFound");
        qobject_unref(error);
        migrate(from, to, uri);
        wait_for_stat(to, "vcpu", "exits", GUEST_RESETS);
        qtest_quit(from);
        qtest_quit(to);
    }
}

/* A snapshot of a guest under any policy can be loaded under any */
static void test_snapshot_every_pair(void)
{
    g_autofree char *path = tmp_path("disk");
    QTestState *qts = start("", "q35");

    add_snapshot_disk(qts, path);
    for (int i = 0; i < ARRAY_SIZE(policies); i++) {
        g_autofree char *tag = g_strdup_printf("policy%d", i);

        set(qts, policies[i].arguments, NULL);
        run_guest(qts, 1);
        run_snapshot(qts, "snapshot-save", tag);
        for (int j = 0; j < ARRAY_SIZE(policies); j++) {
            set(qts, policies[j].arguments, NULL);
            run_snapshot(qts, "snapshot-load", tag);
            assert_setting(qts, NULL, policies[j].effective);
            run_guest(qts, 1);
        }
    }
    qtest_quit(qts);
}

/* A reset is the guest's, the policy is the host's */
static void test_reset(void)
{
    QTestState *qts = start(policies[0].accel, "q35");

    for (int i = 1; i < ARRAY_SIZE(policies); i++) {
        set(qts, policies[i].arguments, NULL);
        qtest_system_reset(qts);
        assert_setting(qts, NULL, policies[i].effective);
        run_guest(qts, 1);
    }
    qtest_quit(qts);
}

typedef struct KVMTest {
    const char *path;
    bool (*have)(uint32_t bits);
    uint32_t bits;
    void (*test)(void);
} KVMTest;

static const KVMTest kvm_tests[] = {
    { "stock/set", have_stock, 0, test_set_stock },
    { "retention/set/sequence", have_capability, ALL, test_set_sequence },
    { "retention/set/running", have_guest, ALL, test_set_running },
    { "retention/set/migrating", have_guest, ALL, test_set_migrating },
    { "retention/slot-zap", have_guest, KEEP, test_slot_zap },
    { "retention/vfio/coldplug", have_capability, KEEP, test_vfio_coldplug },
    { "retention/vfio/hotplug", have_guest, KEEP | QUOTA, test_vfio_hotplug },
    { "retention/vfio/failing", have_capability, KEEP, test_vfio_failing },
    { "retention/migration/every-pair", have_guest, ALL,
      test_migration_every_pair },
    { "retention/migration/unmodified", have_guest, ALL,
      test_migration_unmodified },
    { "retention/snapshot/every-pair", have_guest, ALL,
      test_snapshot_every_pair },
    { "retention/reset", have_guest, ALL, test_reset },
};

static void test_kvm(const void *opaque)
{
    const KVMTest *t = opaque;

    if (t->have(t->bits)) {
        t->test();
    }
}

static void add(const char *dir, const char *name, const void *data,
                void (*test)(const void *))
{
    g_autofree char *path = g_strdup_printf("root-retention/%s/%s", dir, name);

    qtest_add_data_func(path, data, test);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) err = NULL;
    int ret;

    g_test_init(&argc, &argv, NULL);

    qemu_binary = g_getenv("QTEST_QEMU_BINARY");
    if (!qemu_binary) {
        fprintf(stderr, "Environment variable QTEST_QEMU_BINARY required\n");
        return 1;
    }
    tmp_dir = g_dir_make_tmp("kvm-root-retention-XXXXXX", &err);
    g_assert_no_error(err);
    firmware = tmp_path("firmware");
    write_firmware(firmware, firmware_code, sizeof(firmware_code));

    for (int i = 0; i < ARRAY_SIZE(options); i++) {
        add(option_path(&options[i]), options[i].accel, &options[i],
            test_option);
    }
    qtest_add_func("root-retention/option/introspection", test_introspection);
    add("no-kvm", "qtest", "qtest", test_no_kvm);
    add("no-kvm", "tcg", "tcg", test_no_kvm);
    for (int i = 0; i < ARRAY_SIZE(effects); i++) {
        add("kvm/effect", effects[i].name, &effects[i], test_effect);
        if (g_str_equal(effects[i].machine, "q35") && !effects[i].have) {
            add("kvm/retention/guest", effects[i].name, &effects[i],
                test_guest);
        }
    }
    qtest_add_func("root-retention/kvm/stats", test_stats);
    qtest_add_func("root-retention/kvm/query", test_query);
    qtest_add_func("root-retention/kvm/refused", test_set_refused);
    for (int i = 0; i < ARRAY_SIZE(kvm_tests); i++) {
        add("kvm", kvm_tests[i].path, &kvm_tests[i], test_kvm);
    }
    ret = g_test_run();

    for (int i = 0; i < ARRAY_SIZE(tmp_names); i++) {
        g_autofree char *path = tmp_path(tmp_names[i]);

        unlink(path);
    }
    rmdir(tmp_dir);
    g_free(firmware);
    g_free(tmp_dir);
    return ret;
}
