/*
 * QTest for KVM root retention: -accel kvm,root-retention=...,root-quota=...,
 * reset-elision=...,slot-zap=...,slot-coalescing=..., and the QMP and HMP
 * commands about them
 *
 * The tests below option/ and no-kvm/ need no KVM.  Those below kvm/ do; what
 * they expect depends on whether the host's KVM has the capability, and those
 * below kvm/retention/ and kvm/stock/ are for one such host only.  Any KVM may be
 * there, and lack what they want: they are skipped unless the environment says
 * which host it is:
 *
 *   KVM_ROOT_TEST_HOST=stock      KVM without the capability
 *   KVM_ROOT_TEST_HOST=retention  KVM with it
 *
 * Then another host than that is a failure.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/un.h>
#include "linux/kvm.h"
#include "kvm-common.h"
#include "standard-headers/linux/pci_regs.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "qobject/qjson.h"
#include "qobject/qnum.h"
#include "system/kvm-root-retention.h"

#define NO_KVM          "device=/nonexistent/kvm"
#define MISSING_KVM     "Could not access KVM kernel module: " \
                        "No such file or directory\n"

static const char *qemu_binary;
static char *tmp_dir;
static const char *const tmp_names[] = {
    "stderr", "log", "firmware", "migration", "disk",
};

/* The host */

typedef enum HostKind {
    HOST_NO_KVM,
    HOST_STOCK,
    HOST_RETENTION,
} HostKind;

static const char *const host_names[] = {
    [HOST_NO_KVM] = "no KVM",
    [HOST_STOCK] = "stock",
    [HOST_RETENTION] = "retention",
};

static HostKind host, required_host;    /* HOST_NO_KVM requires nothing */
static bool host_slot_zap, host_xen;
static struct utsname host_uts;

static void probe_host(void)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);

    uname(&host_uts);
    if (vm >= 0) {
        int quirks = ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_DISABLE_QUIRKS2);

        host = ioctl(vm, KVM_CHECK_EXTENSION,
                     KVM_CAP_X86_TDP_ROOT_RETENTION) > 0 ?
            HOST_RETENTION : HOST_STOCK;
        host_slot_zap = quirks > 0 && (quirks & KVM_X86_QUIRK_SLOT_ZAP_ALL);
        host_xen = ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_XEN_HVM) > 0;
        close(vm);
    }
    if (kvm >= 0) {
        close(kvm);
    }
}

static void read_required_host(void)
{
    const char *name = g_getenv("KVM_ROOT_TEST_HOST");

    if (!name) {
        return;
    }
    if (g_str_equal(name, host_names[HOST_STOCK])) {
        required_host = HOST_STOCK;
    } else if (g_str_equal(name, host_names[HOST_RETENTION])) {
        required_host = HOST_RETENTION;
    } else {
        fprintf(stderr, "KVM_ROOT_TEST_HOST=%s: expected stock or retention\n",
                name);
        exit(1);
    }
}

/* Returns false, with the test skipped, if no KVM is to be used */
static bool have_kvm(void)
{
    if (required_host != HOST_NO_KVM && required_host != host) {
        g_test_message("KVM_ROOT_TEST_HOST=%s, but this host is: %s",
                       host_names[required_host], host_names[host]);
        g_test_fail();
        return false;
    }
    if (host == HOST_NO_KVM) {
        g_test_skip("KVM_ROOT_TEST_HOST is not set: no KVM is used");
        return false;
    }
    return true;
}

/* Returns false, with the test skipped, if the capability isn't there */
static bool have_capability(void)
{
    if (!have_kvm()) {
        return false;
    }
    if (host != HOST_RETENTION) {
        g_test_skip("KVM on this host lacks the capability");
        return false;
    }
    return true;
}

/* Runs of QEMU that are to end by themselves */

static char *tmp_path(const char *name)
{
    return g_build_filename(tmp_dir, name, NULL);
}

static char *read_file(const char *path)
{
    g_autoptr(GError) err = NULL;
    char *text = NULL;

    g_file_get_contents(path, &text, NULL, &err);
    g_assert_no_error(err);
    return text;
}

static pid_t start_qemu(const char *args, const char *stderr_path)
{
    g_autofree char *command =
        g_strdup_printf("exec %s -nodefaults -display none %s 2>%s </dev/null",
                        qemu_binary, args, stderr_path);
    pid_t pid;

    g_test_message("%s", command);
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        execl("/bin/sh", "sh", "-c", command, NULL);
        _exit(127);
    }
    return pid;
}

/*
 * A value that is wrongly accepted leaves QEMU running: end it, so that the
 * test fails instead of hanging.
 */
static int wait_for_exit(pid_t pid)
{
    gint64 end = g_get_monotonic_time() + TIMEOUT_US;
    int status;
    pid_t ret;

    while ((ret = waitpid(pid, &status, WNOHANG)) == 0) {
        if (g_get_monotonic_time() > end) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            g_error("QEMU should have refused to start, but runs");
        }
        g_usleep(10000);
    }
    g_assert_cmpint(ret, ==, pid);
    return status;
}

/* QEMU must exit with status 1 after exactly this on its standard error */
static void assert_refused(const char *args, const char *expected)
{
    g_autofree char *stderr_path = tmp_path("stderr");
    g_autofree char *text = NULL;
    int status = wait_for_exit(start_qemu(args, stderr_path));

    text = read_file(stderr_path);
    g_assert_cmpstr(text, ==, expected);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 1);
}

/* How QEMU starts an error message about this -accel option */
static char *message_prefix(const char *accel)
{
    g_autofree char *progname = g_path_get_basename(qemu_binary);

    return g_strdup_printf("%s: -accel %s: ", progname, accel);
}

/* option/: parsing and refusals, which need no KVM */

typedef struct RefusedOption {
    const char *name;
    const char *accel;
    const char *message;
} RefusedOption;

#define BAD_VALUE(prop, value, accepted) \
    "Parameter '" prop "' does not accept value '" value "'\n" \
    "Accepted values: " accepted "\n"

#define BAD_SIZE \
    "Parameter 'root-quota' expects a non-negative number below 2^64\n" \
    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, " \
    "peta-\nand exabytes, respectively.\n"

#define BAD_RANGE \
    "Parameter 'root-quota' expects a size of at least 1 byte and less than " \
    "8 EiB"

#define RETENTIONS      "auto default drop keep quota"
#define ON_OFF_AUTO     "auto on off"
#define SLOT_ZAPS       "auto all slot"

static const RefusedOption refused_options[] = {
    { "retention-unknown", "kvm,root-retention=nonsense",
      BAD_VALUE("root-retention", "nonsense", RETENTIONS) },
    { "retention-number", "kvm,root-retention=2",
      BAD_VALUE("root-retention", "2", RETENTIONS) },
    { "retention-case", "kvm,root-retention=KEEP",
      BAD_VALUE("root-retention", "KEEP", RETENTIONS) },
    { "retention-prefix", "kvm,root-retention=kee",
      BAD_VALUE("root-retention", "kee", RETENTIONS) },
    { "retention-empty", "kvm,root-retention=",
      BAD_VALUE("root-retention", "", RETENTIONS) },
    { "retention-last-wins", "kvm,root-retention=keep,root-retention=x",
      BAD_VALUE("root-retention", "x", RETENTIONS) },
    { "elision-unknown", "kvm,reset-elision=maybe",
      BAD_VALUE("reset-elision", "maybe", ON_OFF_AUTO) },
    { "elision-empty", "kvm,reset-elision=",
      BAD_VALUE("reset-elision", "", ON_OFF_AUTO) },
    { "slot-zap-unknown", "kvm,slot-zap=none",
      BAD_VALUE("slot-zap", "none", SLOT_ZAPS) },
    { "slot-zap-on", "kvm,slot-zap=on",
      BAD_VALUE("slot-zap", "on", SLOT_ZAPS) },
    { "slot-coalescing-unknown", "kvm,slot-coalescing=maybe",
      BAD_VALUE("slot-coalescing", "maybe", ON_OFF_AUTO) },
    { "slot-coalescing-number", "kvm,slot-coalescing=1",
      BAD_VALUE("slot-coalescing", "1", ON_OFF_AUTO) },
    { "state-coalescing-unknown", "kvm,state-coalescing=maybe",
      BAD_VALUE("state-coalescing", "maybe", ON_OFF_AUTO) },
    { "state-verify-unknown", "kvm,x-state-verify=maybe",
      "Parameter 'x-state-verify' expects 'on' or 'off'\n" },
    { "quota-unit", "kvm,root-quota=64Q", BAD_SIZE },
    { "quota-word", "kvm,root-quota=all", BAD_SIZE },
    { "quota-empty", "kvm,root-quota=", BAD_SIZE },
    { "quota-negative", "kvm,root-quota=-1",
      "Value '-1' is out of range for parameter 'root-quota'\n" },
    { "quota-overflow", "kvm,root-quota=16E",
      "Value '16E' is out of range for parameter 'root-quota'\n" },
    { "quota-zero", "kvm,root-quota=0", BAD_RANGE "\n" },
    { "quota-too-large", "kvm,root-quota=8E", BAD_RANGE "\n" },
    { "name-misspelt", "kvm,root-retentoin=keep",
      "Property 'kvm-accel.root-retentoin' not found\n" },
    { "retention-tcg", "tcg,root-retention=keep",
      "Property 'tcg-accel.root-retention' not found\n" },
    { "quota-tcg", "tcg,root-quota=64M",
      "Property 'tcg-accel.root-quota' not found\n" },
    { "elision-tcg", "tcg,reset-elision=on",
      "Property 'tcg-accel.reset-elision' not found\n" },
    { "slot-zap-tcg", "tcg,slot-zap=slot",
      "Property 'tcg-accel.slot-zap' not found\n" },
    { "slot-coalescing-tcg", "tcg,slot-coalescing=on",
      "Property 'tcg-accel.slot-coalescing' not found\n" },
    { "state-coalescing-tcg", "tcg,state-coalescing=on",
      "Property 'tcg-accel.state-coalescing' not found\n" },
};

static void test_option_refused(const void *opaque)
{
    const RefusedOption *c = opaque;
    g_autofree char *prefix = message_prefix(c->accel);
    g_autofree char *args = g_strdup_printf("-M none -S -accel '%s'", c->accel);
    g_autofree char *expected = g_strconcat(prefix, c->message, NULL);

    if (g_str_has_prefix(c->accel, "tcg,") && !qtest_has_accel("tcg")) {
        g_test_skip("no TCG in this QEMU");
        return;
    }
    assert_refused(args, expected);
}

typedef struct AcceptedOption {
    const char *name;
    const char *accel;
} AcceptedOption;

static const AcceptedOption accepted_options[] = {
    { "retention-auto", "root-retention=auto" },
    { "retention-default", "root-retention=default" },
    { "retention-drop", "root-retention=drop" },
    { "retention-keep", "root-retention=keep" },
    { "retention-quota", "root-retention=quota,root-quota=64M" },
    { "quota-first", "root-quota=1,root-retention=quota" },
    { "quota-largest", "root-retention=quota,root-quota=7E" },
    { "elision-auto", "reset-elision=auto" },
    { "elision-on", "reset-elision=on" },
    { "elision-off", "reset-elision=off" },
    { "slot-zap-auto", "slot-zap=auto" },
    { "slot-zap-all", "slot-zap=all" },
    { "slot-zap-slot", "slot-zap=slot" },
    { "slot-coalescing-auto", "slot-coalescing=auto" },
    { "slot-coalescing-on", "slot-coalescing=on" },
    { "slot-coalescing-off", "slot-coalescing=off" },
    { "state-coalescing-auto", "state-coalescing=auto" },
    { "state-coalescing-on", "state-coalescing=on" },
    { "state-coalescing-off", "state-coalescing=off" },
    { "all", "root-retention=quota,root-quota=4K,reset-elision=off,"
      "slot-zap=slot,slot-coalescing=on" },
};

/* An accepted value gets as far as the KVM device, which is not there */
static void test_option_accepted(const void *opaque)
{
    const AcceptedOption *c = opaque;
    g_autofree char *accel = g_strdup_printf("kvm," NO_KVM ",%s", c->accel);
    g_autofree char *prefix = message_prefix(accel);
    g_autofree char *args = g_strdup_printf("-M none -S -accel %s", accel);
    g_autofree char *expected =
        g_strdup_printf("%s" MISSING_KVM "%sfailed to initialize kvm: "
                        "No such file or directory\n", prefix, prefix);

    assert_refused(args, expected);
}

static void assert_property(QList *list, const char *name, const char *type)
{
    const QListEntry *entry;

    QLIST_FOREACH_ENTRY(list, entry) {
        QDict *prop = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(prop, "name"), name)) {
            g_assert_cmpstr(qdict_get_str(prop, "type"), ==, type);
            g_assert_true(qdict_haskey(prop, "description"));
            return;
        }
    }
    g_error("kvm-accel has no property %s", name);
}

/* Management software finds the properties without starting a guest */
static void test_option_introspection(void)
{
    QTestState *qts = qtest_init("-M none");
    QDict *response = qtest_qmp(qts, "{'execute': 'qom-list-properties',"
                                " 'arguments': {'typename': 'kvm-accel'}}");
    QList *list = qdict_get_qlist(response, "return");

    g_assert_nonnull(list);
    assert_property(list, "root-retention", "KvmRootRetention");
    assert_property(list, "reset-elision", "OnOffAuto");
    assert_property(list, "slot-zap", "KvmSlotZap");
    assert_property(list, "root-quota", "size");
    assert_property(list, "slot-coalescing", "OnOffAuto");
    assert_property(list, "state-coalescing", "OnOffAuto");

    qobject_unref(response);
    qtest_quit(qts);
}

static QDict *list_types(QTestState *qts, const char *implements)
{
    QDict *response = qtest_qmp(qts, "{'execute': 'qom-list-types',"
                                " 'arguments': {'implements': %s}}",
                                implements);

    g_assert_nonnull(qdict_get_qlist(response, "return"));
    return response;
}

static bool has_type(QDict *response, const char *name)
{
    const QListEntry *entry;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(response, "return"), entry) {
        QDict *type = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(type, "name"), name)) {
            return true;
        }
    }
    return false;
}

/*
 * slot-zap=auto knows a VFIO device by its type.  If upstream derives VFIO
 * devices from another one, it must learn of that.
 */
static void test_option_vfio_types(void)
{
    QTestState *qts = qtest_init("-M none");
    QDict *devices = list_types(qts, "pci-device");
    QDict *known = list_types(qts, "vfio-pci");
    const QListEntry *entry;
    int vfio = 0;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(devices, "return"), entry) {
        QDict *type = qobject_to(QDict, qlist_entry_obj(entry));
        const char *name = qdict_get_str(type, "name");

        /* The bridge is a dummy beside the device that is assigned. */
        if (g_str_has_prefix(name, "vfio") &&
            !g_str_equal(name, "vfio-pci-igd-lpc-bridge")) {
            vfio++;
            if (!has_type(known, name)) {
                g_error("%s is no vfio-pci for slot-zap=auto", name);
            }
        }
    }
    if (!vfio) {
        g_test_skip("no VFIO in this QEMU");
    }

    qobject_unref(known);
    qobject_unref(devices);
    qtest_quit(qts);
}

/* The commands */

static QDict *query(QTestState *qts)
{
    return qtest_qmp_assert_success_ref(
        qts, "{'execute': 'query-kvm-root-retention'}");
}

/* @arguments is JSON; returns the error's text, or NULL if there is none */
static char *set(QTestState *qts, const char *arguments)
{
    QDict *response =
        qtest_qmp(qts, "{'execute': 'set-kvm-root-retention',"
                  " 'arguments': %p}",
                  qobject_from_json(arguments, &error_abort));
    QDict *error = qdict_get_qdict(response, "error");
    char *text = NULL;

    if (error) {
        g_assert_cmpstr(qdict_get_str(error, "class"), ==, "GenericError");
        text = g_strdup(qdict_get_str(error, "desc"));
    } else {
        g_assert_cmpint(qdict_size(qdict_get_qdict(response, "return")), ==, 0);
    }
    qobject_unref(response);
    return text;
}

static void must_set(QTestState *qts, const char *arguments)
{
    g_autofree char *error = set(qts, arguments);

    g_test_message("%s", arguments);
    g_assert_cmpstr(error, ==, NULL);
}

static char *hmp_info(QTestState *qts)
{
    return qtest_hmp(qts, "info kvm-roots");
}

typedef struct RefusedChange {
    const char *arguments;
    const char *message;
} RefusedChange;

#define BAD_ENUM(name, value) \
    "Parameter '" name "' does not accept value '" value "'"
#define BAD_TYPE(name, type) \
    "Invalid parameter type for '" name "', expected: " type

/* What is wrong by itself is refused on any host */
static const RefusedChange refused_changes[] = {
    { "{'root-retention': 'nonsense'}",
      BAD_ENUM("root-retention", "nonsense") },
    { "{'root-retention': ''}", BAD_ENUM("root-retention", "") },
    { "{'root-retention': 'KEEP'}", BAD_ENUM("root-retention", "KEEP") },
    { "{'root-retention': 2}", BAD_TYPE("root-retention", "string") },
    { "{'root-retention': null}", BAD_TYPE("root-retention", "string") },
    { "{'root-retention': 'quota', 'root-quota': '64M'}",
      "Parameter 'root-quota' expects uint64" },
    { "{'root-retention': 'quota', 'root-quota': 0.5}",
      "Parameter 'root-quota' expects uint64" },
    { "{'root-retention': 'quota', 'root-quota': true}",
      "Parameter 'root-quota' expects uint64" },
    { "{'reset-elision': true}", BAD_TYPE("reset-elision", "string") },
    { "{'reset-elision': 'maybe'}", BAD_ENUM("reset-elision", "maybe") },
    { "{'slot-zap': 'none'}", BAD_ENUM("slot-zap", "none") },
    { "{'slot-zap': ['slot']}", BAD_TYPE("slot-zap", "string") },
    { "{'root-retentoin': 'keep'}",
      "Parameter 'root-retentoin' is unexpected" },
    { "{'slot-coalescing': 'off'}",
      "Parameter 'slot-coalescing' is unexpected" },
    { "{'state-coalescing': 'off'}",
      "Parameter 'state-coalescing' is unexpected" },
};

static void assert_changes_refused(QTestState *qts, const RefusedChange *cases,
                                   int n)
{
    for (int i = 0; i < n; i++) {
        g_autofree char *error = set(qts, cases[i].arguments);

        g_test_message("%s", cases[i].arguments);
        g_assert_cmpstr(error, ==, cases[i].message);
    }
}

/* no-kvm/: the commands where there is no KVM */

#define NEEDS_KVM       "KVM root retention needs the accelerator KVM"

static void test_no_kvm(const void *opaque)
{
    const char *accel = opaque;
    g_autofree char *error = NULL;
    g_autofree char *info = NULL;
    QDict *query_error;
    QTestState *qts;

    if (!g_str_equal(accel, "qtest") && !qtest_has_accel(accel)) {
        g_test_skip("not in this QEMU");
        return;
    }

    /* libqtest adds -accel qtest, which is for a QEMU that has no other. */
    qts = qtest_initf("-accel %s -M none", accel);
    query_error = qtest_qmp_assert_failure_ref(
        qts, "{'execute': 'query-kvm-root-retention'}");
    g_assert_cmpstr(qdict_get_str(query_error, "class"), ==, "GenericError");
    g_assert_cmpstr(qdict_get_str(query_error, "desc"), ==, NEEDS_KVM);

    error = set(qts, "{}");
    g_assert_cmpstr(error, ==, NEEDS_KVM);
    g_free(error);
    error = set(qts, "{'root-retention': 'default'}");
    g_assert_cmpstr(error, ==, NEEDS_KVM);
    assert_changes_refused(qts, refused_changes, ARRAY_SIZE(refused_changes));

    info = hmp_info(qts);
    g_assert_cmpstr(info, ==, "Error: " NEEDS_KVM "\r\n");

    qobject_unref(query_error);
    qtest_quit(qts);
}

/* kvm/: what takes effect on a real host */

#define GUEST_RESETS    64

/*
 * A firmware of 64 KiB that makes KVM reset the vCPU's MMU GUEST_RESETS times
 * by toggling CR4.PSE, which changes no role of a TDP root, and halts, or, if
 * @endless, goes to SMM and back, i.e. to another root, and does that again.
 */
static char *write_firmware(bool endless)
{
    static const uint8_t code[] = {
        0xb8, 0x00, 0x30,                       /*    mov $0x3000, %ax        */
        0x8e, 0xd8,                             /*    mov %ax, %ds            */
        0xc7, 0x06, 0x00, 0x80, 0x0f, 0xaa,     /*    movw $rsm, 0x8000       */
        0x66, 0xb9, 0x1b, 0x00, 0x00, 0x00,     /*    mov $APIC_BASE, %ecx    */
        0x0f, 0x32,                             /*    rdmsr                   */
        0x0d, 0x00, 0x0c,                       /*    or $X2APIC, %ax         */
        0x0f, 0x30,                             /*    wrmsr                   */
        0xb9, GUEST_RESETS, 0x00,               /* 1: mov $GUEST_RESETS, %cx  */
        0x0f, 0x20, 0xe0,                       /* 2: mov %cr4, %eax          */
        0x34, 0x10,                             /*    xor $0x10, %al          */
        0x0f, 0x22, 0xe0,                       /*    mov %eax, %cr4          */
        0xe2, 0xf6,                             /*    loop 2b                 */
    };
    static const uint8_t halt[] = {
        0xf4,                                   /* 3: hlt                     */
        0xeb, 0xfd,                             /*    jmp 3b                  */
    };
    static const uint8_t smi_and_again[] = {
        0x66, 0xb8, 0x00, 0x42, 0x04, 0x00,     /*    mov $SMI_TO_SELF, %eax  */
        0x66, 0x31, 0xd2,                       /*    xor %edx, %edx          */
        0x66, 0xb9, 0x30, 0x08, 0x00, 0x00,     /*    mov $X2APIC_ICR, %ecx   */
        0x0f, 0x30,                             /*    wrmsr                   */
        0xeb, 0xe0,                             /*    jmp 1b                  */
    };
    static const uint8_t reset_vector[] = {
        0xe9, 0x0d, 0x00,               /*    jmp to offset 0        */
    };
    g_autofree uint8_t *image = g_malloc0(64 * KiB);
    g_autoptr(GError) err = NULL;
    char *path = tmp_path("firmware");

    memcpy(image, code, sizeof(code));
    if (endless) {
        memcpy(image + sizeof(code), smi_and_again, sizeof(smi_and_again));
    } else {
        memcpy(image + sizeof(code), halt, sizeof(halt));
    }
    memcpy(image + 0xfff0, reset_vector, sizeof(reset_vector));
    g_file_set_contents(path, (char *)image, 64 * KiB, &err);
    g_assert_no_error(err);
    return path;
}

static QTestState *start_firmware(const char *accel, const char *machine,
                                  bool endless)
{
    g_autofree char *firmware = write_firmware(endless);
    g_autofree char *log = tmp_path("log");

    unlink(log);
    return qtest_initf("-accel kvm%s -M %s -m 64 -nodefaults -vga none "
                       "-bios %s -D %s -trace 'kvm_root_*'",
                       accel, machine, firmware, log);
}

static QTestState *start_guest(const char *accel, const char *machine)
{
    return start_firmware(accel, machine, false);
}

/* What the trace event said last, or NULL if it wasn't seen */
static char *traced(const char *event)
{
    g_autofree char *path = tmp_path("log");
    g_autofree char *log = read_file(path);
    g_autofree char *key = g_strconcat(event, " ", NULL);
    const char *found = g_strrstr(log, key);

    if (!found) {
        return NULL;
    }
    found += strlen(key);
    return g_strndup(found, strcspn(found, "\n"));
}

/* Returns false if KVM has no statistic of that name */
static bool get_stat(QTestState *qts, const char *target, const char *name,
                     uint64_t *value)
{
    QDict *response =
        qtest_qmp(qts, "{'execute': 'query-stats', 'arguments': {"
                  " 'target': %s, 'providers': ["
                  "  {'provider': 'kvm', 'names': [%s]}]}}", target, name);
    QList *results = qdict_get_qlist(response, "return");
    bool found = false;

    g_assert_nonnull(results);
    if (!qlist_empty(results)) {
        QDict *result = qobject_to(QDict, qlist_peek(results));
        QList *stats = qdict_get_qlist(result, "stats");
        QDict *stat;

        g_assert_cmpint(qlist_size(stats), ==, 1);
        stat = qobject_to(QDict, qlist_peek(stats));
        g_assert_cmpstr(qdict_get_str(stat, "name"), ==, name);
        *value = qnum_get_uint(qobject_to(QNum, qdict_get(stat, "value")));
        found = true;
    }
    qobject_unref(response);
    return found;
}

static uint64_t must_get_stat(QTestState *qts, const char *target,
                              const char *name)
{
    uint64_t value = 0;

    if (!get_stat(qts, target, name, &value)) {
        g_error("query-stats has no %s statistic %s", target, name);
    }
    return value;
}

static void wait_for_stat(QTestState *qts, const char *target,
                          const char *name, uint64_t least)
{
    gint64 end = g_get_monotonic_time() + TIMEOUT_US;
    uint64_t value;

    while ((value = must_get_stat(qts, target, name)) < least) {
        if (g_get_monotonic_time() > end) {
            g_error("%s is %" PRIu64 ", and does not reach %" PRIu64,
                    name, value, least);
        }
        g_usleep(10000);
    }
}

typedef struct EffectCase {
    const char *name;
    const char *accel;
    const char *machine;
    const char *stock, *retention;      /* kvm_root_effect, NULL: refused */
    const char *devices;                /* kvm_root_slot_zap_auto, or NULL */
} EffectCase;

#define EFFECT_QUOTA(policy, quota, elision, zap) \
    "root-retention=" policy ",root-quota=" quota " pages,reset-elision=" \
    elision ",slot-zap=" zap
#define EFFECT(policy, elision, zap) \
    EFFECT_QUOTA(policy, "0", elision, zap)
#define STOCK           EFFECT("default", "off", "all")

static const EffectCase effect_cases[] = {
    { "auto", "", "q35",
      STOCK, EFFECT("keep", "on", "auto"),
      "vfio present 0 pluggable 0 revocable 1: slot-zap=slot" },
    /* What can be withdrawn when a VFIO device comes need not be forgone */
    { "auto-pc", "", "pc",
      STOCK, EFFECT("keep", "on", "auto"),
      "vfio present 0 pluggable 1 revocable 1: slot-zap=slot" },
    { "auto-root-port", "", "q35 -device pcie-root-port",
      STOCK, EFFECT("keep", "on", "auto"),
      "vfio present 0 pluggable 1 revocable 1: slot-zap=slot" },
    /* What else KVM does for the guest makes no difference */
    { "auto-hyperv", "", "q35 -cpu max,hv-relaxed,hv-vapic,hv-spinlocks=8191,"
      "hv-time,hv-vpindex,hv-runtime,hv-synic,hv-stimer,hv-tlbflush,hv-ipi",
      STOCK, EFFECT("keep", "on", "auto"),
      "vfio present 0 pluggable 0 revocable 1: slot-zap=slot" },
    { "auto-xen", ",xen-version=0x4000a,kernel-irqchip=split", "q35",
      STOCK, EFFECT("keep", "on", "auto"),
      "vfio present 0 pluggable 0 revocable 1: slot-zap=slot" },
    { "default", ",root-retention=default", "q35",
      STOCK, EFFECT("default", "off", "all") },
    { "default-elision", ",root-retention=default,reset-elision=on", "q35",
      NULL, EFFECT("default", "on", "all") },
    { "default-slot", ",root-retention=default,slot-zap=slot", "q35",
      EFFECT("default", "off", "slot"),
      EFFECT("default", "off", "slot") },
    { "drop", ",root-retention=drop", "q35",
      NULL, EFFECT("drop", "off", "all") },
    { "drop-elision", ",root-retention=drop,reset-elision=on", "q35",
      NULL, EFFECT("drop", "on", "all") },
    { "keep", ",root-retention=keep", "q35",
      NULL, EFFECT("keep", "on", "auto"),
      "vfio present 0 pluggable 0 revocable 1: slot-zap=slot" },
    { "keep-no-elision", ",root-retention=keep,reset-elision=off", "q35",
      NULL, EFFECT("keep", "off", "auto"),
      "vfio present 0 pluggable 0 revocable 1: slot-zap=slot" },
    { "keep-all", ",root-retention=keep,slot-zap=all", "q35",
      NULL, EFFECT("keep", "on", "all") },
    { "keep-slot-pc", ",root-retention=keep,slot-zap=slot", "pc",
      NULL, EFFECT("keep", "on", "slot") },
    { "quota", ",root-retention=quota,root-quota=64M", "q35",
      NULL, EFFECT_QUOTA("quota", "16384", "on", "auto"),
      "vfio present 0 pluggable 0 revocable 1: slot-zap=slot" },
    { "quota-rounded-up", ",root-quota=1,root-retention=quota", "q35",
      NULL, EFFECT_QUOTA("quota", "1", "on", "auto"),
      "vfio present 0 pluggable 0 revocable 1: slot-zap=slot" },
};

/* Of these no host takes any, and the last thing it says is why */
static const EffectCase contradictions[] = {
    { "quota-without-size", "root-retention=quota", NULL,
      "root-retention=quota needs root-quota=SIZE\n"
      "SIZE is what the page tables that no vCPU uses may hold, at least "
      "1 byte, for instance root-quota=64M.\n" },
    { "size-with-auto", "root-quota=64M", NULL,
      "root-quota is for root-retention=quota, not for root-retention=auto\n" },
    { "size-with-keep", "root-quota=64M,root-retention=keep", NULL,
      "root-quota is for root-retention=quota, not for root-retention=keep\n" },
};

static void assert_in_effect(const EffectCase *c, const char *expected)
{
    QTestState *qts = start_guest(c->accel, c->machine);
    g_autofree char *effect = traced("kvm_root_effect");
    g_autofree char *devices = traced("kvm_root_slot_zap_auto");

    g_assert_cmpstr(effect, ==, expected);
    g_assert_cmpstr(devices, ==, host == HOST_RETENTION ? c->devices : NULL);
    qtest_quit(qts);
}

static void test_kvm_contradiction(const void *opaque)
{
    const EffectCase *c = opaque;
    g_autofree char *accel = g_strconcat("kvm,", c->accel, NULL);
    g_autofree char *prefix = message_prefix(accel);
    g_autofree char *args = g_strdup_printf("-M none -S -accel %s", accel);
    g_autofree char *expected =
        g_strdup_printf("%s%s%sfailed to initialize kvm: "
                        "Operation not supported\n", prefix, c->stock, prefix);

    if (have_kvm()) {
        assert_refused(args, expected);
    }
}

static void assert_missing_capability(const EffectCase *c)
{
    g_autofree char *accel = g_strconcat("kvm", c->accel, NULL);
    g_autofree char *prefix = message_prefix(accel);
    g_autofree char *args = g_strdup_printf("-M none -S -accel %s", accel);
    g_autofree char *stderr_path = tmp_path("stderr");
    g_autofree char *text = NULL;
    /* Of the properties here the first that is not default is refused */
    const char *asked = strstr(accel, "root-retention=default") ?
        strchr(strstr(accel, "root-retention="), ',') + 1 :
        strstr(accel, "root-retention=");
    g_autofree char *expected =
        g_strdup_printf("%s%.*s needs KVM_CAP_X86_TDP_ROOT_RETENTION, "
                        "which host kernel %s does not offer\n", prefix,
                        (int)strcspn(asked, ","), asked, host_uts.release);
    int status = wait_for_exit(start_qemu(args, stderr_path));

    text = read_file(stderr_path);
    g_assert_true(g_str_has_prefix(text, expected));
    g_assert_nonnull(strstr(text, "\nThis host takes "));
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 1);
}

static void test_kvm_effect(const void *opaque)
{
    const EffectCase *c = opaque;
    const char *expected;

    if (!have_kvm()) {
        return;
    }
    if (host == HOST_STOCK && !host_slot_zap &&
        strstr(c->accel, "slot-zap=slot")) {
        g_test_skip("this kernel always zaps all (before 6.12)");
        return;
    }
    if (!host_xen && strstr(c->accel, "xen-version=")) {
        g_test_skip("this kernel has no KVM_XEN");
        return;
    }

    expected = host == HOST_RETENTION ? c->retention : c->stock;
    if (expected) {
        assert_in_effect(c, expected);
    } else {
        assert_missing_capability(c);
    }
}

static const char *const vm_stats[] = {
    "tdp_roots", "tdp_root_pages", "tdp_root_allocs", "tdp_root_evictions",
};

static const char *const vcpu_stats[] = {
    "mmu_resets", "mmu_resets_elided", "mmu_root_loads",
};

/*
 * The kernel's statistics are in query-stats under the kernel's own names.  A
 * kernel that has the capability, but not for this VM (the TDP MMU is off),
 * has them too, and no root to count.
 */
static void test_kvm_stats(void)
{
    QTestState *qts;
    uint64_t value;
    bool expected;

    if (!have_kvm()) {
        return;
    }

    qts = start_guest("", "q35");
    wait_for_stat(qts, "vcpu", "halt_exits", 1);
    expected = get_stat(qts, "vm", "tdp_roots", &value);
    if (host == HOST_RETENTION) {
        g_assert_true(expected);
        g_assert_cmpuint(value, >, 0);
    } else if (expected) {
        g_assert_cmpuint(value, ==, 0);
    }
    for (int i = 0; i < ARRAY_SIZE(vm_stats); i++) {
        g_assert_cmpint(get_stat(qts, "vm", vm_stats[i], &value), ==,
                        expected);
    }
    for (int i = 0; i < ARRAY_SIZE(vcpu_stats); i++) {
        g_assert_cmpint(get_stat(qts, "vcpu", vcpu_stats[i], &value), ==,
                        expected);
    }
    qtest_quit(qts);
}

static const struct {
    const char *name, *type;
} own_stats[] = {
    { "qemu_slot_ioctls", "cumulative" },
    { "qemu_slot_deletes", "cumulative" },
    { "qemu_slot_ioctls_saved", "instant" },
    { "qemu_root_cap_calls", "cumulative" },
    { "qemu_state_writes", "cumulative" },
    { "qemu_state_writes_saved", "cumulative" },
    { "qemu_state_reads", "cumulative" },
    { "qemu_state_reads_saved", "cumulative" },
};

#define CAP_CALLS       "qemu_root_cap_calls"

/* The type that the schema of KVM's statistics tells, NULL if it has none */
static char *schema_type(QTestState *qts, const char *target, const char *name)
{
    QDict *response = qtest_qmp(qts, "{'execute': 'query-stats-schemas',"
                                " 'arguments': {'provider': 'kvm'}}");
    const QListEntry *entry, *stat;
    char *type = NULL;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(response, "return"), entry) {
        QDict *schema = qobject_to(QDict, qlist_entry_obj(entry));

        if (!g_str_equal(qdict_get_str(schema, "target"), target)) {
            continue;
        }
        QLIST_FOREACH_ENTRY(qdict_get_qlist(schema, "stats"), stat) {
            QDict *value = qobject_to(QDict, qlist_entry_obj(stat));

            if (g_str_equal(qdict_get_str(value, "name"), name)) {
                g_assert_null(type);
                type = g_strdup(qdict_get_str(value, "type"));
            }
        }
    }
    qobject_unref(response);
    return type;
}

/* Switch a BAR of memory on and off: of "-device VGA,addr=3" */

static void pci_config_write(QTestState *qts, uint8_t reg, uint32_t value)
{
    qtest_outl(qts, 0xcf8, 0x80000000 | 3 << 11 | reg);
    qtest_outl(qts, 0xcfc, value);
}

static void create_and_delete_slot(QTestState *qts)
{
    pci_config_write(qts, PCI_BASE_ADDRESS_0, 0xe0000000);
    pci_config_write(qts, PCI_COMMAND, PCI_COMMAND_MEMORY);
    pci_config_write(qts, PCI_COMMAND, 0);
}

/*
 * QEMU's own counters are in one result with the kernel's.  A kernel that is
 * to do what it does anyway is not told so, but it is once told otherwise.
 */
static void test_kvm_own_stats(void)
{
    bool retention = host == HOST_RETENTION;
    QDict *response;
    QTestState *qts;
    uint64_t value, ioctls, deletes;
    QList *results;

    if (!have_kvm()) {
        return;
    }

    qts = start_guest(",root-retention=default,slot-zap=all,"
                      "slot-coalescing=off",
                      "q35 -device VGA,addr=3,romfile=");
    for (int i = 0; i < ARRAY_SIZE(own_stats); i++) {
        const char *name = own_stats[i].name;
        g_autofree char *vm_type = schema_type(qts, "vm", name);
        g_autofree char *vcpu_type = schema_type(qts, "vcpu", name);

        g_assert_cmpstr(vm_type, ==, own_stats[i].type);
        g_assert_cmpstr(vcpu_type, ==, NULL);
        must_get_stat(qts, "vm", name);
        g_assert_false(get_stat(qts, "vcpu", name, &value));
    }
    ioctls = must_get_stat(qts, "vm", "qemu_slot_ioctls");
    deletes = must_get_stat(qts, "vm", "qemu_slot_deletes");
    g_assert_cmpuint(ioctls, >, deletes);
    create_and_delete_slot(qts);
    g_assert_cmpuint(must_get_stat(qts, "vm", "qemu_slot_deletes"), >,
                     deletes);
    g_assert_cmpuint(must_get_stat(qts, "vm", "qemu_slot_ioctls"), >,
                     ioctls + 1);
    g_assert_cmpuint(must_get_stat(qts, "vm", "qemu_slot_ioctls_saved"), ==,
                     0);

    g_assert_cmpuint(must_get_stat(qts, "vm", CAP_CALLS), ==, 0);
    must_set(qts, "{}");
    g_assert_cmpuint(must_get_stat(qts, "vm", CAP_CALLS), ==, 0);
    if (retention) {
        must_set(qts, "{'root-retention': 'keep'}");
        g_assert_cmpuint(must_get_stat(qts, "vm", CAP_CALLS), ==, 1);
        must_set(qts, "{'root-retention': 'default'}");
        g_assert_cmpuint(must_get_stat(qts, "vm", CAP_CALLS), ==, 2);
    }

    response = qtest_qmp(qts, "{'execute': 'query-stats',"
                         " 'arguments': {'target': 'vm'}}");
    results = qdict_get_qlist(response, "return");
    g_assert_cmpint(qlist_size(results), ==, 1);
    g_assert_cmpint(qlist_size(qdict_get_qlist(
        qobject_to(QDict, qlist_peek(results)), "stats")), >, 10);
    qobject_unref(response);
    qtest_quit(qts);
}

/*
 * Let the guest of endless firmware go through SMM @times more.  Each time
 * counts some more resets than those of CR4.PSE.
 */
static void run_guest(QTestState *qts, unsigned int times)
{
    uint64_t resets = must_get_stat(qts, "vcpu", "mmu_resets");

    wait_for_stat(qts, "vcpu", "mmu_resets",
                  resets + times * 2 * GUEST_RESETS);
}

typedef struct GuestCase {
    const char *name;
    const char *accel;
    bool elided;                /* the guest's resets don't unload */
    bool evicted;               /* the root of the other mode goes */
} GuestCase;

#define EVICTIONS       "tdp_root_evictions"

static const GuestCase guest_cases[] = {
    { "default", ",root-retention=default", false, false },
    { "default-elision", ",root-retention=default,reset-elision=on",
      true, false },
    { "drop", ",root-retention=drop", false, true },
    { "drop-elision", ",root-retention=drop,reset-elision=on", true, true },
    { "keep", ",root-retention=keep", true, false },
    { "keep-no-elision", ",root-retention=keep,reset-elision=off",
      false, false },
    /* A root of this guest takes more than a page, both less than 256 */
    { "quota-small", ",root-retention=quota,root-quota=4K,reset-elision=off",
      false, true },
    { "quota-large", ",root-retention=quota,root-quota=1M,reset-elision=off",
      false, false },
    { "quota-elision", ",root-retention=quota,root-quota=4K", true, true },
};

/* A guest that resets its MMU costs what the policy says */
static void test_kvm_guest(const void *opaque)
{
    const GuestCase *c = opaque;
    uint64_t loads, allocs, evictions, elided;
    QTestState *qts;

    if (!have_capability()) {
        return;
    }

    qts = start_firmware(c->accel, "q35", true);
    run_guest(qts, 4);
    if (c->evicted) {
        /* By a worker, in its own time. */
        wait_for_stat(qts, "vm", EVICTIONS, 4);
    }
    qtest_qmp_assert_success(qts, "{'execute': 'stop'}");
    elided = must_get_stat(qts, "vcpu", "mmu_resets_elided");
    loads = must_get_stat(qts, "vcpu", "mmu_root_loads");
    allocs = must_get_stat(qts, "vm", "tdp_root_allocs");
    evictions = must_get_stat(qts, "vm", EVICTIONS);
    g_test_message("elided %" PRIu64 " loads %" PRIu64 " allocated %" PRIu64
                   " evicted %" PRIu64, elided, loads, allocs, evictions);

    if (c->elided) {
        g_assert_cmpuint(elided, >=, 4 * GUEST_RESETS);
        /* Creating the vCPU and its first entry cost a few, too. */
        g_assert_cmpuint(loads, <=, GUEST_RESETS / 4 + 2 * evictions);
    } else {
        g_assert_cmpuint(elided, ==, 0);
        g_assert_cmpuint(loads, >=, 4 * GUEST_RESETS);
    }
    /* One of SMM, and one of not. */
    g_assert_cmpuint(allocs, >=, 2);
    if (!c->evicted) {
        g_assert_cmpuint(evictions, ==, 0);
    }
    qtest_quit(qts);
}

/* What "requested" or "effective" says, as -accel kvm would take it */
static char *config(QTestState *qts, const char *which)
{
    QDict *info = query(qts);
    QDict *c = qdict_get_qdict(info, which);
    GString *text = g_string_new(qdict_get_str(c, "root-retention"));

    if (qdict_haskey(c, "root-quota")) {
        g_string_append_printf(text, ":%" PRId64,
                               qdict_get_int(c, "root-quota"));
    }
    g_string_append_printf(text, ",%s,%s",
                           qdict_get_str(c, "reset-elision"),
                           qdict_get_str(c, "slot-zap"));
    qobject_unref(info);
    return g_string_free(text, false);
}

static void assert_config(QTestState *qts, const char *requested,
                          const char *effective)
{
    g_autofree char *is_requested = config(qts, "requested");
    g_autofree char *is_effective = config(qts, "effective");

    g_assert_cmpstr(is_requested, ==, requested);
    g_assert_cmpstr(is_effective, ==, effective);
}

#define AUTO            "auto,auto,auto"
#define NOTHING         "default,off,all"

/* What the host offers, and the kernel's statistics, are told as they are */
static void test_kvm_query(void)
{
    g_autofree char *text = NULL;
    g_autofree char *expected = NULL;
    QTestState *qts;
    QDict *info, *offer;

    if (!have_kvm()) {
        return;
    }

    qts = start_guest("", "q35");
    wait_for_stat(qts, "vcpu", "halt_exits", 1);
    assert_config(qts, AUTO, host == HOST_RETENTION ? "keep,on,slot" :
                  NOTHING);
    info = query(qts);
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(info, "requested"),
                                  "slot-coalescing"), ==, "auto");
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(info, "effective"),
                                  "slot-coalescing"), ==, "on");
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(info, "effective"),
                                  "state-coalescing"), ==, "on");
    offer = qdict_get_qdict(info, "host");
    g_assert_cmpstr(qdict_get_str(offer, "kernel"), ==, host_uts.release);
    g_assert_cmpint(qlist_size(qdict_get_qlist(offer, "root-retention")), ==,
                    host == HOST_RETENTION ? 4 : 1);
    g_assert_cmpint(qdict_get_bool(offer, "reset-elision"), ==,
                    host == HOST_RETENTION);
    g_assert_cmpint(qdict_get_bool(offer, "slot-zap"), ==,
                    host_slot_zap || host == HOST_RETENTION);
    g_assert_cmpint(qdict_get_bool(offer, "slot-zap-revocable"), ==,
                    host == HOST_RETENTION);

    text = hmp_info(qts);
    g_test_message("%s", text);
    g_assert_nonnull(strstr(text, host == HOST_RETENTION ?
                            "root-retention    auto        keep\r\n" :
                            "root-retention    auto        default\r\n"));
    g_assert_nonnull(strstr(text, host_uts.release));

    /* The guest has halted: the statistics don't change any more. */
    if (host == HOST_RETENTION) {
        expected = g_strdup_printf(
            "roots: %" PRIu64 ", pages of 4 KiB: %" PRIu64
            "; roots allocated %" PRIu64 ", evicted %" PRIu64 "\r\n",
            must_get_stat(qts, "vm", "tdp_roots"),
            must_get_stat(qts, "vm", "tdp_root_pages"),
            must_get_stat(qts, "vm", "tdp_root_allocs"),
            must_get_stat(qts, "vm", EVICTIONS));
        g_assert_nonnull(strstr(text, expected));
        g_assert_cmpuint(must_get_stat(qts, "vm", "tdp_roots"), >, 0);
    }

    qobject_unref(info);
    qtest_quit(qts);
}

/* A change that is refused leaves all as it was, whatever else it asks for */
static void test_kvm_set_refused(void)
{
    static const RefusedChange contradicting[] = {
        { "{'root-retention': 'quota'}",
          "root-retention=quota needs root-quota=SIZE" },
        { "{'root-quota': 4096}", "root-quota is for root-retention=quota, "
          "not for root-retention=default" },
        { "{'reset-elision': 'off', 'slot-zap': 'slot', 'root-quota': 4096}",
          "root-quota is for root-retention=quota, "
          "not for root-retention=default" },
        { "{'root-retention': 'keep', 'root-quota': 4096}",
          "root-quota is for root-retention=quota, "
          "not for root-retention=keep" },
        { "{'root-retention': 'quota', 'root-quota': 0}", BAD_RANGE },
        { "{'root-retention': 'quota', 'root-quota': -1}", BAD_RANGE },
        { "{'root-retention': 'quota', 'root-quota': 9223372036854775808}",
          BAD_RANGE },
    };
    QTestState *qts;

    if (!have_kvm()) {
        return;
    }

    qts = start_guest(",root-retention=default", "q35");
    assert_changes_refused(qts, refused_changes, ARRAY_SIZE(refused_changes));
    assert_changes_refused(qts, contradicting, ARRAY_SIZE(contradicting));
    assert_config(qts, "default,auto,auto", NOTHING);
    qtest_quit(qts);
}

/* What a host without the capability can't give, and what it can for good */
static void test_kvm_set_stock(void)
{
    static const char *const needing[][2] = {
        { "{'root-retention': 'keep'}", "root-retention=keep" },
        { "{'root-retention': 'quota', 'root-quota': 1}",
          "root-retention=quota" },
        { "{'slot-zap': 'slot', 'reset-elision': 'on'}", "reset-elision=on" },
    };
    g_autofree char *error = NULL;
    g_autofree char *expected = NULL;
    QTestState *qts;

    if (!have_kvm()) {
        return;
    }
    if (host != HOST_STOCK || !host_slot_zap) {
        g_test_skip("not a stock kernel of 6.12 or later");
        return;
    }

    qts = start_guest("", "q35");
    for (int i = 0; i < ARRAY_SIZE(needing); i++) {
        error = set(qts, needing[i][0]);
        expected = g_strdup_printf("%s needs KVM_CAP_X86_TDP_ROOT_RETENTION, "
                                   "which host kernel %s does not offer",
                                   needing[i][1], host_uts.release);
        g_assert_cmpstr(error, ==, expected);
        g_clear_pointer(&error, g_free);
        g_clear_pointer(&expected, g_free);
    }
    assert_config(qts, AUTO, NOTHING);

    must_set(qts, "{'slot-zap': 'slot'}");
    assert_config(qts, "auto,auto,slot", "default,off,slot");
    error = set(qts, "{'slot-zap': 'all'}");
    expected = g_strdup_printf("slot-zap=all: slot-zap=slot is in effect "
                               "through KVM_CAP_DISABLE_QUIRKS2, and host "
                               "kernel %s can't be told to go back",
                               host_uts.release);
    g_assert_cmpstr(error, ==, expected);
    must_set(qts, "{'slot-zap': 'auto'}");
    assert_config(qts, AUTO, "default,off,slot");
    qtest_quit(qts);
}

static void test_kvm_set_sequence(void)
{
    static const char *const steps[][3] = {
        { "{}", AUTO, "keep,on,slot" },
        { "{'root-retention': 'drop'}", "drop,auto,auto", "drop,off,all" },
        { "{'root-retention': 'quota', 'root-quota': 5000}",
          "quota:5000,auto,auto", "quota:8192,on,slot" },
        { "{'root-quota': 1048576, 'reset-elision': 'off'}",
          "quota:1048576,off,auto", "quota:1048576,off,slot" },
        { "{'slot-zap': 'all'}",
          "quota:1048576,off,all", "quota:1048576,off,all" },
        { "{'root-retention': 'default'}", "default,off,all", NOTHING },
        { "{'slot-zap': 'slot', 'reset-elision': 'on'}",
          "default,on,slot", "default,on,slot" },
        { "{'root-retention': 'auto', 'reset-elision': 'auto',"
          " 'slot-zap': 'auto'}", AUTO, "keep,on,slot" },
    };
    QTestState *qts;

    if (!have_capability()) {
        return;
    }

    qts = start_guest("", "q35");
    for (int i = 0; i < ARRAY_SIZE(steps); i++) {
        must_set(qts, steps[i][0]);
        assert_config(qts, steps[i][1], steps[i][2]);
    }
    qtest_quit(qts);
}

/* A guest that resets its MMU all the time feels each change at once */
static void test_kvm_set_running(void)
{
    static const struct {
        const char *arguments;
        const char *grows;      /* a statistic */
        uint64_t by;
    } steps[] = {
        { "{'root-retention': 'keep', 'reset-elision': 'on'}",
          "mmu_resets_elided", GUEST_RESETS },
        { "{'root-retention': 'keep', 'reset-elision': 'off'}",
          "mmu_root_loads", GUEST_RESETS },
        { "{'root-retention': 'drop'}", EVICTIONS, 4 },
        { "{'root-retention': 'quota', 'root-quota': 1}", EVICTIONS, 4 },
        { "{'root-retention': 'default', 'reset-elision': 'on'}",
          "mmu_resets_elided", GUEST_RESETS },
    };
    QTestState *qts;

    if (!have_capability()) {
        return;
    }

    qts = start_firmware("", "q35", true);
    for (int i = 0; i < 2 * ARRAY_SIZE(steps); i++) {
        const char *name = steps[i % ARRAY_SIZE(steps)].grows;
        const char *target = g_str_has_prefix(name, "mmu_") ? "vcpu" : "vm";
        uint64_t before;

        must_set(qts, steps[i % ARRAY_SIZE(steps)].arguments);
        before = must_get_stat(qts, target, name);
        wait_for_stat(qts, target, name,
                      before + steps[i % ARRAY_SIZE(steps)].by);
    }
    qtest_quit(qts);
}

/* slot-zap, as the deletion of a slot shows it: roots that were made anew */

static uint64_t roots_lost(QTestState *qts)
{
    uint64_t before;

    /* By now the guest has loaded all of its roots. */
    run_guest(qts, 1);
    before = must_get_stat(qts, "vm", "tdp_root_allocs");
    create_and_delete_slot(qts);
    run_guest(qts, 1);
    return must_get_stat(qts, "vm", "tdp_root_allocs") - before;
}

static void test_kvm_slot_zap(void)
{
    QTestState *qts;

    if (!have_capability()) {
        return;
    }

    qts = start_firmware(",slot-coalescing=off",
                         "q35 -device VGA,addr=3,romfile=", true);
    g_assert_cmpuint(roots_lost(qts), ==, 0);
    must_set(qts, "{'slot-zap': 'all'}");
    g_assert_cmpuint(roots_lost(qts), >, 0);
    must_set(qts, "{'slot-zap': 'slot'}");
    g_assert_cmpuint(roots_lost(qts), ==, 0);
    qtest_quit(qts);
}

/*
 * slot-zap=auto goes to all before a VFIO device comes.  This one does not
 * exist, so that it goes back to slot after that has failed.
 */
static void test_kvm_vfio_failing(void)
{
    g_autofree char *path = tmp_path("log");
    g_autofree char *log = NULL;
    const char *all, *slot;
    QTestState *qts;
    QDict *error;

    if (!have_capability()) {
        return;
    }

    qts = start_guest("", "q35 -device pcie-root-port,id=rp0");
    assert_config(qts, AUTO, "keep,on,slot");
    error = qtest_qmp_assert_failure_ref(
        qts, "{'execute': 'device_add', 'arguments': {"
        " 'driver': 'vfio-pci', 'bus': 'rp0', 'host': 'ffff:00:00.0'}}");
    qobject_unref(error);
    assert_config(qts, AUTO, "keep,on,slot");

    log = read_file(path);
    all = strstr(log, "kvm_root_slot_zap_auto vfio present 1 pluggable 1 "
                 "revocable 1: slot-zap=all\n");
    g_assert_nonnull(all);
    all = strstr(all, "kvm_root_enable_cap policy 2 flags 0x1 ");
    g_assert_nonnull(all);
    slot = strstr(all, "kvm_root_slot_zap_auto vfio present 0 pluggable 1 "
                  "revocable 1: slot-zap=slot\n");
    g_assert_nonnull(slot);
    g_assert_nonnull(strstr(slot, "kvm_root_enable_cap policy 2 flags 0x3 "));

    /* What is asked for by name stands. */
    must_set(qts, "{'slot-zap': 'slot'}");
    error = qtest_qmp_assert_failure_ref(
        qts, "{'execute': 'device_add', 'arguments': {"
        " 'driver': 'vfio-pci', 'bus': 'rp0', 'host': 'ffff:00:00.0'}}");
    qobject_unref(error);
    g_free(log);
    log = read_file(path);
    g_assert_null(strstr(strstr(log, "reset-elision=on,slot-zap=slot\n"),
                         "slot-zap=all"));
    qtest_quit(qts);
}

/*
 * The kernel's sample of a mediated device, a serial card, which needs neither
 * hardware nor an IOMMU.
 */
#define MTTY            "/sys/devices/virtual/mtty/mtty/"
#define MTTY_UUID       "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
#define MTTY_PLUGGED    "vfio-pci,sysfsdev=" MTTY MTTY_UUID

static bool create_mtty(void)
{
    int fd;

    if (access(MTTY MTTY_UUID, F_OK) == 0) {
        return true;
    }
    fd = open(MTTY "mdev_supported_types/mtty-2/create", O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    g_assert_cmpint(write(fd, MTTY_UUID, strlen(MTTY_UUID)), ==,
                    strlen(MTTY_UUID));
    close(fd);
    return true;
}

static void test_kvm_vfio_coldplug(void)
{
    g_autofree char *devices = NULL;
    QTestState *qts;

    if (!have_capability()) {
        return;
    }
    if (!create_mtty()) {
        g_test_skip("no VFIO device to be had without hardware (mtty)");
        return;
    }

    qts = start_guest("", "q35 -device " MTTY_PLUGGED);
    devices = traced("kvm_root_slot_zap_auto");
    g_assert_cmpstr(devices, ==,
                    "vfio present 1 pluggable 0 revocable 1: slot-zap=all");
    assert_config(qts, AUTO, "keep,on,all");
    qtest_quit(qts);

    qts = start_guest(",slot-zap=slot", "q35 -device " MTTY_PLUGGED);
    assert_config(qts, "auto,auto,slot", "keep,on,slot");
    qtest_quit(qts);
}

static void test_kvm_vfio_hotplug(void)
{
    QTestState *qts;

    if (!have_capability()) {
        return;
    }
    if (!create_mtty()) {
        g_test_skip("no VFIO device to be had without hardware (mtty)");
        return;
    }

    qts = start_firmware(",slot-coalescing=off",
                         "pc -device VGA,addr=3,romfile=", true);
    for (int i = 0; i < 2; i++) {
        g_assert_cmpuint(roots_lost(qts), ==, 0);
        qtest_qmp_assert_success(
            qts, "{'execute': 'device_add', 'arguments': {"
            " 'driver': 'vfio-pci', 'id': 'assigned', 'addr': '5',"
            " 'sysfsdev': %s}}", MTTY MTTY_UUID);
        assert_config(qts, AUTO, "keep,on,all");
        g_assert_cmpuint(roots_lost(qts), >, 0);

        /* A change of something else does not forget the device. */
        must_set(qts, "{'reset-elision': 'off'}");
        assert_config(qts, "auto,off,auto", "keep,off,all");
        must_set(qts, "{'slot-zap': 'slot', 'reset-elision': 'auto'}");
        assert_config(qts, "auto,auto,slot", "keep,on,slot");
        must_set(qts, "{'slot-zap': 'auto'}");
        assert_config(qts, AUTO, "keep,on,all");

        /* The guest's part is to eject the device through ACPI. */
        qtest_qmp_device_del_send(qts, "assigned");
        qtest_outl(qts, 0xae08, 1 << 5);
        qtest_qmp_eventwait(qts, "DEVICE_DELETED");
        assert_config(qts, AUTO, "keep,on,slot");
    }
    qtest_quit(qts);
}

static double event_time(QDict *event)
{
    QDict *stamp = qdict_get_qdict(event, "timestamp");

    return qdict_get_int(stamp, "seconds") +
        qdict_get_int(stamp, "microseconds") / 1e6;
}

/* The event tells of every eviction, and comes at most once a second */
static void test_kvm_quota_event(void)
{
    uint64_t total, told = 0;
    double last = 0;
    QTestState *qts;

    if (!have_capability()) {
        return;
    }

    qts = start_firmware(",reset-elision=off", "q35", true);
    g_assert_cmpuint(must_get_stat(qts, "vm", EVICTIONS), ==, 0);
    must_set(qts, "{'root-retention': 'quota', 'root-quota': 4096}");
    for (int i = 0; i < 3; i++) {
        QDict *event = qtest_qmp_eventwait_ref(qts, "KVM_ROOT_QUOTA_EVICTED");
        QDict *data = qdict_get_qdict(event, "data");
        double now = event_time(event);

        g_assert_cmpuint(qdict_get_int(data, "roots"), >, 0);
        g_assert_cmpuint(qdict_get_int(data, "root-quota"), ==, 4096);
        /* A timer may be late, and the next one then early. */
        g_assert_true(!last || now - last > 0.9);
        last = now;
        told += qdict_get_int(data, "roots");
        qobject_unref(event);
    }
    /* What is left to tell is told when the quota is another, or none. */
    must_set(qts, "{'root-quota': 1048576}");
    must_set(qts, "{'root-retention': 'keep'}");
    total = must_get_stat(qts, "vm", EVICTIONS);
    while (told < total) {
        QDict *event = qtest_qmp_eventwait_ref(qts, "KVM_ROOT_QUOTA_EVICTED");
        QDict *data = qdict_get_qdict(event, "data");

        g_assert_cmpuint(qdict_get_int(data, "root-quota"), ==, 4096);
        told += qdict_get_int(data, "roots");
        qobject_unref(event);
    }
    g_assert_cmpuint(told, ==, total);
    g_usleep(2500000);
    must_get_stat(qts, "vm", EVICTIONS);
    g_assert_null(qtest_qmp_event_ref(qts, "KVM_ROOT_QUOTA_EVICTED"));
    qtest_quit(qts);
}

/* Migration */

/* A migration to somebody who accepts it and reads nothing does not end */
static void test_kvm_set_migrating(void)
{
    g_autofree char *path = tmp_path("migration");
    g_autofree char *uri = g_strconcat("unix:", path, NULL);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    QTestState *qts;
    int fd;

    if (!have_capability()) {
        return;
    }

    unlink(path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==,
                    0);
    g_assert_cmpint(listen(fd, 1), ==, 0);

    qts = start_firmware("", "q35", true);
    qtest_qmp_assert_success(qts, "{'execute': 'migrate',"
                             " 'arguments': {'uri': %s}}", uri);
    wait_for_migration(qts, "active");
    must_set(qts, "{'root-retention': 'quota', 'root-quota': 4096,"
             " 'slot-zap': 'all'}");
    assert_config(qts, "quota:4096,auto,all", "quota:4096,on,all");
    must_set(qts, "{'root-retention': 'drop', 'slot-zap': 'slot'}");
    assert_config(qts, "drop,auto,slot", "drop,off,slot");
    wait_for_migration(qts, "active");
    qtest_qmp_assert_success(qts, "{'execute': 'migrate_cancel'}");
    close(fd);
    qtest_quit(qts);
}

/* Each policy as what -accel kvm and set-kvm-root-retention take */
static const struct {
    const char *accel, *arguments, *effective;
} policies[] = {
    { ",root-retention=default", "{'root-retention': 'default'}", NOTHING },
    { ",root-retention=drop", "{'root-retention': 'drop'}",
      "drop,off,all" },
    { ",root-retention=keep", "{'root-retention': 'keep'}",
      "keep,on,slot" },
    { ",root-retention=quota,root-quota=4K",
      "{'root-retention': 'quota', 'root-quota': 4096}",
      "quota:4096,on,slot" },
};

/* From each policy to each: what follows what in a De Bruijn sequence */
static const int policy_tour[] = {
    0, 0, 1, 0, 2, 0, 3, 1, 1, 2, 1, 3, 2, 2, 3, 3, 0,
};

static void assert_policy(QTestState *qts, int policy)
{
    g_autofree char *is = config(qts, "effective");

    g_assert_cmpstr(is, ==, policies[policy].effective);
}

static void migrate(QTestState *from, const char *uri)
{
    qtest_qmp_assert_success(from, "{'execute': 'migrate',"
                             " 'arguments': {'uri': %s}}", uri);
    wait_for_migration(from, "completed");
}

/*
 * The policy is each host's own matter, and no part of the stream.  One half
 * of the destinations is told theirs on the command line, the other one while
 * it waits for the stream.
 */
static void test_kvm_migration_every_pair(void)
{
    g_autofree char *path = tmp_path("migration");
    g_autofree char *uri = g_strconcat("unix:", path, NULL);
    g_autofree char *machine = g_strdup_printf("q35 -incoming %s", uri);
    QTestState *from, *to;

    if (!have_capability()) {
        return;
    }

    from = start_firmware(policies[policy_tour[0]].accel, "q35", true);
    run_guest(from, 1);
    for (int i = 1; i < ARRAY_SIZE(policy_tour); i++) {
        int policy = policy_tour[i];

        g_test_message("%s to %s", policies[policy_tour[i - 1]].effective,
                       policies[policy].effective);
        unlink(path);
        to = start_firmware(i % 2 ? policies[policy].accel : "", machine,
                            true);
        if (i % 2 == 0) {
            must_set(to, policies[policy].arguments);
        }
        migrate(from, uri);
        qtest_qmp_eventwait(to, "RESUME");
        assert_policy(from, policy_tour[i - 1]);
        assert_policy(to, policy);
        run_guest(to, 1);
        qtest_quit(from);
        from = to;
    }
    qtest_quit(from);
}

/* To a QEMU that knows nothing of all this, whatever was in effect */
static void test_kvm_migration_unmodified(void)
{
    g_autofree char *path = tmp_path("migration");
    g_autofree char *uri = g_strconcat("unix:", path, NULL);
    const char *binary = g_getenv("QTEST_QEMU_BINARY_DST");
    QTestState *from, *to;

    if (!have_capability()) {
        return;
    }
    if (!binary || access(binary, X_OK) < 0) {
        g_test_skip("no other QEMU in QTEST_QEMU_BINARY_DST");
        return;
    }

    for (int i = 0; i < ARRAY_SIZE(policies); i++) {
        g_autofree char *firmware = NULL;
        g_autofree char *args = NULL;
        QDict *error;

        unlink(path);
        from = start_firmware(policies[i].accel, "q35", true);
        run_guest(from, 1);
        firmware = tmp_path("firmware");
        args = g_strdup_printf("-accel kvm -M q35 -m 64 -nodefaults -vga none "
                               "-bios %s -incoming %s", firmware, uri);
        to = qtest_init_with_env("QTEST_QEMU_BINARY_DST", args, true);
        error = qtest_qmp_assert_failure_ref(
            to, "{'execute': 'query-kvm-root-retention'}");
        g_assert_cmpstr(qdict_get_str(error, "class"), ==, "CommandNotFound");
        qobject_unref(error);
        migrate(from, uri);
        qtest_qmp_eventwait(to, "RESUME");
        wait_for_stat(to, "vcpu", "exits",
                      must_get_stat(to, "vcpu", "exits") + GUEST_RESETS);
        qtest_quit(from);
        qtest_quit(to);
    }
}

/* A snapshot of a guest under any policy can be loaded under any */
static void test_kvm_snapshot_every_pair(void)
{
    g_autofree char *path = tmp_path("disk");
    QTestState *qts;

    if (!have_capability()) {
        return;
    }

    qts = start_firmware("", "q35", true);
    add_snapshot_disk(qts, path);
    for (int i = 0; i < ARRAY_SIZE(policies); i++) {
        g_autofree char *tag = g_strdup_printf("policy%d", i);

        must_set(qts, policies[i].arguments);
        run_guest(qts, 1);
        run_snapshot(qts, "snapshot-save", tag);
        for (int j = 0; j < ARRAY_SIZE(policies); j++) {
            must_set(qts, policies[j].arguments);
            run_snapshot(qts, "snapshot-load", tag);
            assert_policy(qts, j);
            run_guest(qts, 1);
        }
    }
    qtest_quit(qts);
}

/* A reset is the guest's, the policy is the host's */
static void test_kvm_reset(void)
{
    QTestState *qts;

    if (!have_capability()) {
        return;
    }

    qts = start_firmware(policies[0].accel, "q35", true);
    for (int i = 1; i < ARRAY_SIZE(policies); i++) {
        must_set(qts, policies[i].arguments);
        qtest_system_reset(qts);
        assert_policy(qts, i);
        run_guest(qts, 1);
    }
    qtest_quit(qts);
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
    read_required_host();
    if (required_host != HOST_NO_KVM) {
        probe_host();
    }
    tmp_dir = g_dir_make_tmp("kvm-root-retention-XXXXXX", &err);
    g_assert_no_error(err);

    for (int i = 0; i < ARRAY_SIZE(refused_options); i++) {
        g_autofree char *path =
            g_strdup_printf("root-retention/option/refused/%s",
                            refused_options[i].name);

        qtest_add_data_func(path, &refused_options[i], test_option_refused);
    }
    for (int i = 0; i < ARRAY_SIZE(accepted_options); i++) {
        g_autofree char *path =
            g_strdup_printf("root-retention/option/accepted/%s",
                            accepted_options[i].name);

        qtest_add_data_func(path, &accepted_options[i], test_option_accepted);
    }
    qtest_add_func("root-retention/option/introspection",
                   test_option_introspection);
    qtest_add_func("root-retention/option/vfio-types", test_option_vfio_types);

    qtest_add_data_func("root-retention/no-kvm/qtest", "qtest", test_no_kvm);
    qtest_add_data_func("root-retention/no-kvm/tcg", "tcg", test_no_kvm);

    for (int i = 0; i < ARRAY_SIZE(effect_cases); i++) {
        g_autofree char *path =
            g_strdup_printf("root-retention/kvm/effect/%s",
                            effect_cases[i].name);

        qtest_add_data_func(path, &effect_cases[i], test_kvm_effect);
    }
    for (int i = 0; i < ARRAY_SIZE(contradictions); i++) {
        g_autofree char *path =
            g_strdup_printf("root-retention/kvm/contradiction/%s",
                            contradictions[i].name);

        qtest_add_data_func(path, &contradictions[i], test_kvm_contradiction);
    }
    qtest_add_func("root-retention/kvm/stats", test_kvm_stats);
    qtest_add_func("root-retention/kvm/own-stats", test_kvm_own_stats);
    for (int i = 0; i < ARRAY_SIZE(guest_cases); i++) {
        g_autofree char *path =
            g_strdup_printf("root-retention/kvm/retention/guest/%s",
                            guest_cases[i].name);

        qtest_add_data_func(path, &guest_cases[i], test_kvm_guest);
    }
    qtest_add_func("root-retention/kvm/query", test_kvm_query);
    qtest_add_func("root-retention/kvm/refused", test_kvm_set_refused);
    qtest_add_func("root-retention/kvm/stock/set", test_kvm_set_stock);
    qtest_add_func("root-retention/kvm/retention/set/sequence",
                   test_kvm_set_sequence);
    qtest_add_func("root-retention/kvm/retention/set/running",
                   test_kvm_set_running);
    qtest_add_func("root-retention/kvm/retention/set/migrating",
                   test_kvm_set_migrating);
    qtest_add_func("root-retention/kvm/retention/slot-zap", test_kvm_slot_zap);
    qtest_add_func("root-retention/kvm/retention/vfio-coldplug",
                   test_kvm_vfio_coldplug);
    qtest_add_func("root-retention/kvm/retention/vfio-hotplug",
                   test_kvm_vfio_hotplug);
    qtest_add_func("root-retention/kvm/retention/vfio-failing",
                   test_kvm_vfio_failing);
    qtest_add_func("root-retention/kvm/retention/quota-event",
                   test_kvm_quota_event);
    qtest_add_func("root-retention/kvm/retention/migration/every-pair",
                   test_kvm_migration_every_pair);
    qtest_add_func("root-retention/kvm/retention/migration/unmodified",
                   test_kvm_migration_unmodified);
    qtest_add_func("root-retention/kvm/retention/snapshot/every-pair",
                   test_kvm_snapshot_every_pair);
    qtest_add_func("root-retention/kvm/retention/reset", test_kvm_reset);

    ret = g_test_run();

    for (int i = 0; i < ARRAY_SIZE(tmp_names); i++) {
        g_autofree char *path = tmp_path(tmp_names[i]);

        unlink(path);
    }
    rmdir(tmp_dir);
    g_free(tmp_dir);
    return ret;
}
