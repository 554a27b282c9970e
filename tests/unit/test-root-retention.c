/*
 * KVM root retention: what is asked for, against what the host offers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/units.h"
#include "system/kvm-root-retention.h"

#define FLAG(x)         (KVM_X86_TDP_ROOT_##x << KVM_X86_TDP_ROOT_FLAGS_SHIFT)
#define ELIDE           FLAG(ELIDE)
#define SLOT            FLAG(SLOT)
#define DEFAULT         (1 << KVM_X86_TDP_ROOT_DEFAULT)
#define DROP            (1 << KVM_X86_TDP_ROOT_DROP)
#define KEEP            (1 << KVM_X86_TDP_ROOT_KEEP)
#define QUOTA           (1 << KVM_X86_TDP_ROOT_QUOTA)
#define ALL             (DEFAULT | DROP | KEEP | QUOTA | ELIDE | SLOT)

/* A kernel with the first patches of the series: what is to be had without */
#define SOME            (DEFAULT | DROP | KEEP | ELIDE)

/* A policy and a flag that this QEMU does not know: neither used nor missed */
#define FUTURE          (1 << 4 | 1 << (KVM_X86_TDP_ROOT_FLAGS_SHIFT + 2))

#define R(x)            KVM_ROOT_RETENTION_##x
#define E(x)            ON_OFF_AUTO_##x
#define Z(x)            KVM_SLOT_ZAP_##x

typedef struct ResolveCase {
    const char *name;
    KVMRootRequest request;
    uint32_t capability;
    bool slot_quirk;
    KVMRootEffect effect;
    const char *error;          /* if set, nothing takes effect */
} ResolveCase;

static const ResolveCase resolve_cases[] = {
    /* auto takes what there is, and never fails */
    { "auto/stock-6.1", { R(AUTO), E(AUTO), Z(AUTO) }, 0, false,
      { R(DEFAULT), false, Z(ALL) } },
    { "auto/stock-6.12", { R(AUTO), E(AUTO), Z(AUTO) }, 0, true,
      { R(DEFAULT), false, Z(ALL) } },
    { "auto/full", { R(AUTO), E(AUTO), Z(AUTO) }, ALL, true,
      { R(KEEP), true, Z(AUTO), true } },
    { "auto/future", { R(AUTO), E(AUTO), Z(AUTO) }, ALL | FUTURE, true,
      { R(KEEP), true, Z(AUTO), true } },
    { "auto/some", { R(AUTO), E(AUTO), Z(AUTO) }, SOME, true,
      { R(KEEP), true, Z(AUTO), false } },
    { "auto/no-quirk", { R(AUTO), E(AUTO), Z(AUTO) }, ALL, false,
      { R(KEEP), true, Z(AUTO), true } },
    { "auto/some-no-quirk", { R(AUTO), E(AUTO), Z(AUTO) }, SOME, false,
      { R(KEEP), true, Z(ALL), false } },
    { "auto/no-elision", { R(AUTO), E(AUTO), Z(AUTO) }, ALL & ~ELIDE, true,
      { R(KEEP), false, Z(AUTO), true } },
    { "auto/no-slot", { R(AUTO), E(AUTO), Z(AUTO) }, ALL & ~SLOT, true,
      { R(KEEP), true, Z(AUTO), false } },
    { "auto/no-keep", { R(AUTO), E(AUTO), Z(AUTO) }, ALL & ~KEEP, true,
      { R(DEFAULT), false, Z(ALL), true } },
    { "auto/only-future", { R(AUTO), E(AUTO), Z(AUTO) }, FUTURE, true,
      { R(DEFAULT), false, Z(ALL) } },

    /* default is what the kernel does by itself, whatever it offers */
    { "default/stock", { R(DEFAULT), E(AUTO), Z(AUTO) }, 0, false,
      { R(DEFAULT), false, Z(ALL) } },
    { "default/full", { R(DEFAULT), E(AUTO), Z(AUTO) }, ALL, true,
      { R(DEFAULT), false, Z(ALL), true } },

    /* the other policies by name */
    { "drop/full", { R(DROP), E(AUTO), Z(AUTO) }, ALL, true,
      { R(DROP), false, Z(ALL), true } },
    { "keep/full", { R(KEEP), E(AUTO), Z(AUTO) }, ALL, true,
      { R(KEEP), true, Z(AUTO), true } },
    { "drop/stock", { R(DROP), E(AUTO), Z(AUTO) }, 0, true, {},
      "root-retention=drop needs KVM_CAP_X86_TDP_ROOT_RETENTION, "
      "which host kernel 6.12.1-test does not offer" },
    { "keep/stock", { R(KEEP), E(AUTO), Z(AUTO) }, 0, true, {},
      "root-retention=keep needs KVM_CAP_X86_TDP_ROOT_RETENTION, "
      "which host kernel 6.12.1-test does not offer" },
    { "keep/no-keep", { R(KEEP), E(AUTO), Z(AUTO) }, ALL & ~KEEP, true, {},
      "root-retention=keep needs that policy in "
      "KVM_CAP_X86_TDP_ROOT_RETENTION, "
      "which host kernel 6.12.1-test does not offer" },

    /* quota retains as keep does; its size is rounded up to pages */
    { "quota/full", { R(QUOTA), E(AUTO), Z(AUTO), 64 * MiB }, ALL,
      true, { R(QUOTA), true, Z(AUTO), true, 16384 } },
    { "quota/1-byte", { R(QUOTA), E(AUTO), Z(AUTO), 1 }, ALL,
      true, { R(QUOTA), true, Z(AUTO), true, 1 } },
    { "quota/1-page", { R(QUOTA), E(AUTO), Z(AUTO), 4096 }, ALL,
      true, { R(QUOTA), true, Z(AUTO), true, 1 } },
    { "quota/1-page-and-a-bit", { R(QUOTA), E(AUTO), Z(AUTO), 4097 },
      ALL, true, { R(QUOTA), true, Z(AUTO), true, 2 } },
    { "quota/largest", { R(QUOTA), E(AUTO), Z(AUTO), INT64_MAX },
      ALL, true, { R(QUOTA), true, Z(AUTO), true, 1ull << 51 } },
    { "quota/no-size", { R(QUOTA), E(AUTO), Z(AUTO) }, ALL, true, {},
      "root-retention=quota needs root-quota=SIZE" },
    { "quota/no-size-stock", { R(QUOTA), E(AUTO), Z(AUTO) }, 0, true, {},
      "root-retention=quota needs root-quota=SIZE" },
    { "quota/stock", { R(QUOTA), E(AUTO), Z(AUTO), 4096 }, 0, true,
      {}, "root-retention=quota needs KVM_CAP_X86_TDP_ROOT_RETENTION, "
      "which host kernel 6.12.1-test does not offer" },
    { "quota/no-quota", { R(QUOTA), E(AUTO), Z(AUTO), 4096 }, SOME,
      true, {}, "root-retention=quota needs that policy in "
      "KVM_CAP_X86_TDP_ROOT_RETENTION, "
      "which host kernel 6.12.1-test does not offer" },
    { "quota/size-for-auto", { R(AUTO), E(AUTO), Z(AUTO), 4096 }, ALL,
      true, {},
      "root-quota is for root-retention=quota, not for root-retention=auto" },
    { "quota/size-for-default", { R(DEFAULT), E(AUTO), Z(AUTO), 4096 },
      ALL, true, {},
      "root-quota is for root-retention=quota, "
      "not for root-retention=default" },
    { "quota/size-for-keep", { R(KEEP), E(AUTO), Z(AUTO), 4096 }, 0,
      true, {},
      "root-quota is for root-retention=quota, not for root-retention=keep" },

    /* elision is independent of the policy once it is asked for by name */
    { "elision-on/default", { R(DEFAULT), E(ON), Z(AUTO) }, ALL, true,
      { R(DEFAULT), true, Z(ALL), true } },
    { "elision-on/drop", { R(DROP), E(ON), Z(AUTO) }, ALL, true,
      { R(DROP), true, Z(ALL), true } },
    { "elision-off/keep", { R(KEEP), E(OFF), Z(AUTO) }, ALL, true,
      { R(KEEP), false, Z(AUTO), true } },
    { "elision-off/stock", { R(AUTO), E(OFF), Z(AUTO) }, 0, false,
      { R(DEFAULT), false, Z(ALL) } },
    { "elision-on/stock", { R(AUTO), E(ON), Z(AUTO) }, 0, true, {},
      "reset-elision=on needs KVM_CAP_X86_TDP_ROOT_RETENTION, "
      "which host kernel 6.12.1-test does not offer" },
    { "elision-on/no-elision", { R(KEEP), E(ON), Z(AUTO) }, ALL & ~ELIDE, true,
      {},
      "reset-elision=on needs KVM_X86_TDP_ROOT_ELIDE in "
      "KVM_CAP_X86_TDP_ROOT_RETENTION, "
      "which host kernel 6.12.1-test does not offer" },

    /* so is slot-zap, which stock kernels have too, but can't withdraw */
    { "slot/stock-6.12", { R(AUTO), E(AUTO), Z(SLOT) }, 0, true,
      { R(DEFAULT), false, Z(SLOT), false } },
    { "slot/default", { R(DEFAULT), E(AUTO), Z(SLOT) }, ALL, true,
      { R(DEFAULT), false, Z(SLOT), true } },
    { "slot/keep", { R(KEEP), E(AUTO), Z(SLOT) }, ALL, true,
      { R(KEEP), true, Z(SLOT), true } },
    { "slot/keep-some", { R(KEEP), E(AUTO), Z(SLOT) }, SOME, true,
      { R(KEEP), true, Z(SLOT), false } },
    { "slot/keep-no-quirk", { R(KEEP), E(AUTO), Z(SLOT) }, ALL, false,
      { R(KEEP), true, Z(SLOT), true } },
    { "slot/stock-6.1", { R(AUTO), E(AUTO), Z(SLOT) }, 0, false, {},
      "slot-zap=slot needs KVM_X86_TDP_ROOT_SLOT in "
      "KVM_CAP_X86_TDP_ROOT_RETENTION or KVM_X86_QUIRK_SLOT_ZAP_ALL in "
      "KVM_CAP_DISABLE_QUIRKS2, and host kernel 6.12.1-test offers neither" },
    { "all/keep", { R(KEEP), E(AUTO), Z(ALL) }, ALL, true,
      { R(KEEP), true, Z(ALL), true } },
    { "all/stock-6.1", { R(AUTO), E(AUTO), Z(ALL) }, 0, false,
      { R(DEFAULT), false, Z(ALL) } },

    /* of several that can't be given, the policy is named */
    { "first-error", { R(KEEP), E(ON), Z(SLOT) }, 0, false, {},
      "root-retention=keep needs KVM_CAP_X86_TDP_ROOT_RETENTION, "
      "which host kernel 6.12.1-test does not offer" },
};

static void assert_effect(const KVMRootEffect *a, const KVMRootEffect *b)
{
    g_assert_cmpint(a->retention, ==, b->retention);
    g_assert_cmpint(a->reset_elision, ==, b->reset_elision);
    g_assert_cmpint(a->slot_zap, ==, b->slot_zap);
    g_assert_cmpint(a->slot_flag, ==, b->slot_flag);
    g_assert_cmpuint(a->quota_pages, ==, b->quota_pages);
}

static void test_resolve(gconstpointer opaque)
{
    const ResolveCase *c = opaque;
    const KVMRootOffer offer = {
        .capability = c->capability,
        .slot_quirk = c->slot_quirk,
        .kernel = "6.12.1-test",
    };
    /* auto is never in effect, so that it shows if this was not written */
    const KVMRootEffect untouched = { R(AUTO), true, Z(AUTO), true, 5 };
    KVMRootEffect effect = untouched;
    Error *err = NULL;
    bool ok;

    ok = kvm_root_policy_resolve(&c->request, &offer, &effect, &err);

    g_assert_cmpint(ok, ==, !c->error);
    if (c->error) {
        g_assert_nonnull(err);
        g_assert_cmpstr(error_get_pretty(err), ==, c->error);
        error_free(err);
        assert_effect(&effect, &untouched);
    } else {
        g_assert_null(err);
        assert_effect(&effect, &c->effect);
    }
}

/* auto for all succeeds and is resolved, whatever a kernel may answer */
static void test_auto_never_fails(void)
{
    const KVMRootRequest request = { R(AUTO), E(AUTO), Z(AUTO) };

    for (uint32_t policies = 0; policies < 32; policies++) {
        for (uint32_t flags = 0; flags < 16; flags++) {
            for (int slot_quirk = 0; slot_quirk < 2; slot_quirk++) {
                const KVMRootOffer offer = {
                    .capability =
                        policies | flags << KVM_X86_TDP_ROOT_FLAGS_SHIFT,
                    .slot_quirk = slot_quirk,
                    .kernel = "6.12.1-test",
                };
                bool keep = policies & KEEP;
                bool slot = flags & KVM_X86_TDP_ROOT_SLOT;
                KVMRootEffect effect;

                g_assert_true(kvm_root_policy_resolve(&request, &offer,
                                                      &effect, &error_abort));
                g_assert_cmpint(effect.retention, ==,
                                keep ? R(KEEP) : R(DEFAULT));
                g_assert_cmpint(effect.reset_elision, ==,
                                keep && (flags & KVM_X86_TDP_ROOT_ELIDE));
                g_assert_cmpint(effect.slot_zap, ==,
                                keep && (slot || slot_quirk) ?
                                Z(AUTO) : Z(ALL));
                g_assert_cmpint(effect.slot_flag, ==, slot);
                g_assert_cmpuint(effect.quota_pages, ==, 0);
            }
        }
    }
}

static void test_slot_coalescing(void)
{
    static const struct {
        OnOffAuto request;
        unsigned int slots;
        bool confidential, effect;
    } cases[] = {
        { E(AUTO), 32764, false, true },
        { E(AUTO), 256,   false, true },
        { E(AUTO), 255,   false, false },
        { E(AUTO), 32764, true,  false },
        { E(ON),   32764, false, true },
        { E(ON),   32,    true,  true },
        { E(OFF),  32764, false, false },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        const KVMRootRequest request = {
            .slot_coalescing = cases[i].request,
        };
        const KVMRootOffer offer = {
            .slots = cases[i].slots,
            .confidential = cases[i].confidential,
            .kernel = "6.12.1-test",
        };
        KVMRootEffect effect = { .slot_coalescing = !cases[i].effect };

        g_assert_true(kvm_root_policy_resolve(&request, &offer, &effect,
                                              &error_abort));
        g_assert_cmpint(effect.slot_coalescing, ==, cases[i].effect);
    }
}

static void test_state_coalescing(void)
{
    static const struct {
        OnOffAuto request;
        bool confidential, effect;
        const char *error;
    } cases[] = {
        { E(AUTO), false, true },
        { E(AUTO), true,  false },
        { E(ON),   false, true },
        { E(OFF),  false, false },
        { E(OFF),  true,  false },
        { E(ON),   true,  false,
          "state-coalescing=on is not for confidential guests: "
          "KVM does not tell the state of their vCPUs" },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        const KVMRootRequest request = {
            .state_coalescing = cases[i].request,
        };
        const KVMRootOffer offer = {
            .confidential = cases[i].confidential,
            .kernel = "6.12.1-test",
        };
        KVMRootEffect effect = { .state_coalescing = !cases[i].effect };
        Error *err = NULL;
        bool ok = kvm_root_policy_resolve(&request, &offer, &effect, &err);

        g_assert_cmpint(ok, ==, !cases[i].error);
        if (ok) {
            g_assert_cmpint(effect.state_coalescing, ==, cases[i].effect);
        } else {
            g_assert_cmpstr(error_get_pretty(err), ==, cases[i].error);
            /* Nothing changed. */
            g_assert_cmpint(effect.state_coalescing, ==, !cases[i].effect);
            error_free(err);
        }
    }
}

/* Once the quirk is disabled, slot is in effect whatever is asked for */
static void test_quirk_is_for_good(void)
{
    const KVMRootOffer offer = {
        .slot_quirk = true,
        .slot_quirk_disabled = true,
        .kernel = "6.12.1-test",
    };
    KVMRootRequest request = { R(AUTO), E(AUTO), Z(AUTO) };
    KVMRootEffect effect = { R(AUTO) };
    Error *err = NULL;

    g_assert_true(kvm_root_offers_slot_zap(&offer));
    g_assert_true(kvm_root_policy_resolve(&request, &offer, &effect,
                                          &error_abort));
    g_assert_cmpint(effect.slot_zap, ==, Z(SLOT));
    g_assert_false(effect.slot_flag);

    request.slot_zap = Z(SLOT);
    g_assert_true(kvm_root_policy_resolve(&request, &offer, &effect,
                                          &error_abort));
    g_assert_cmpint(effect.slot_zap, ==, Z(SLOT));

    request.slot_zap = Z(ALL);
    g_assert_false(kvm_root_policy_resolve(&request, &offer, &effect, &err));
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "slot-zap=all: slot-zap=slot is in effect through "
                    "KVM_CAP_DISABLE_QUIRKS2, and host kernel 6.12.1-test "
                    "can't be told to go back");
    error_free(err);
    g_assert_cmpint(effect.slot_zap, ==, Z(SLOT));
}

static void test_slot_zap(void)
{
    static const struct {
        bool slot_flag, present, pluggable;
        KvmSlotZap slot_zap;
    } cases[] = {
        { false, false, false, Z(SLOT) },
        { false, true, false, Z(ALL) },
        { false, false, true, Z(ALL) },
        { false, true, true, Z(ALL) },
        /* What can be withdrawn need not be forgone */
        { true, false, false, Z(SLOT) },
        { true, true, false, Z(ALL) },
        { true, false, true, Z(SLOT) },
        { true, true, true, Z(ALL) },
    };
    KVMRootEffect effect = { R(KEEP), true };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        effect.slot_flag = cases[i].slot_flag;
        effect.slot_zap = Z(AUTO);
        g_assert_cmpint(kvm_root_policy_slot_zap(&effect, cases[i].present,
                                                 cases[i].pluggable),
                        ==, cases[i].slot_zap);

        /* What was asked for by name stands, with VFIO too */
        effect.slot_zap = Z(SLOT);
        g_assert_cmpint(kvm_root_policy_slot_zap(&effect, cases[i].present,
                                                 cases[i].pluggable),
                        ==, Z(SLOT));
        effect.slot_zap = Z(ALL);
        g_assert_cmpint(kvm_root_policy_slot_zap(&effect, cases[i].present,
                                                 cases[i].pluggable),
                        ==, Z(ALL));
    }
}

static void test_cap_args(void)
{
    static const struct {
        KVMRootEffect effect;
        bool enable;
        uint64_t args[3];
    } cases[] = {
        /* A kernel that is left alone behaves exactly as one without */
        { { R(DEFAULT), false, Z(ALL) },              false, { 0, 0, 0 } },
        { { R(DEFAULT), false, Z(ALL), true },        false, { 0, 0, 0 } },
        { { R(DEFAULT), false, Z(SLOT) },             false, { 0, 0, 0 } },
        { { R(DEFAULT), false, Z(SLOT), true },       true,  { 0, 2, 0 } },
        { { R(DEFAULT), true, Z(ALL) },               true,  { 0, 1, 0 } },
        { { R(DROP), false, Z(ALL) },                 true,  { 1, 0, 0 } },
        { { R(DROP), true, Z(ALL) },                  true,  { 1, 1, 0 } },
        { { R(KEEP), false, Z(ALL) },                 true,  { 2, 0, 0 } },
        { { R(KEEP), true, Z(AUTO), true },           true,  { 2, 1, 0 } },
        { { R(KEEP), true, Z(SLOT), false },          true,  { 2, 1, 0 } },
        { { R(KEEP), true, Z(SLOT), true },           true,  { 2, 3, 0 } },
        { { R(QUOTA), false, Z(ALL), true, 9 },       true,  { 3, 0, 9 } },
        { { R(QUOTA), true, Z(SLOT), true, 9 },       true,  { 3, 3, 9 } },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t args[3];

        g_assert_cmpint(kvm_root_policy_cap_args(&cases[i].effect, args),
                        ==, cases[i].enable);
        for (int j = 0; j < ARRAY_SIZE(args); j++) {
            g_assert_cmpuint(args[j], ==, cases[i].args[j]);
        }
    }
}

static void assert_request(const KVMRootRequest *a, const KVMRootRequest *b)
{
    g_assert_cmpint(a->retention, ==, b->retention);
    g_assert_cmpint(a->reset_elision, ==, b->reset_elision);
    g_assert_cmpint(a->slot_zap, ==, b->slot_zap);
    g_assert_cmpuint(a->quota, ==, b->quota);
}

#define RETENTION(x) \
    .has_root_retention = true, .root_retention = KVM_ROOT_RETENTION_##x
#define BAD_SIZE        "Parameter 'root-quota' expects a size of at least " \
                        "1 byte and less than 8 EiB"
#define SIZE(x)         .has_root_quota = true, .root_quota = x

static void test_change(void)
{
    static const struct {
        KVMRootRequest before;
        KvmRootRetentionChange change;
        KVMRootRequest after;
        const char *error;
    } cases[] = {
        { { R(DROP), E(ON), Z(ALL) }, {},
          { R(DROP), E(ON), Z(ALL) } },
        { { R(QUOTA), E(ON), Z(ALL), 9 }, {},
          { R(QUOTA), E(ON), Z(ALL), 9 } },
        /* each member by itself */
        { { R(DROP), E(ON), Z(ALL) }, { RETENTION(KEEP) },
          { R(KEEP), E(ON), Z(ALL) } },
        { { R(DROP), E(ON), Z(ALL) },
          { .has_reset_elision = true, .reset_elision = E(OFF) },
          { R(DROP), E(OFF), Z(ALL) } },
        { { R(DROP), E(ON), Z(ALL) },
          { .has_slot_zap = true, .slot_zap = Z(SLOT) },
          { R(DROP), E(ON), Z(SLOT) } },
        /* a quota comes with its policy, and goes with it */
        { { R(AUTO) }, { RETENTION(QUOTA), SIZE(7) },
          { R(QUOTA), .quota = 7 } },
        { { R(QUOTA), .quota = 7 }, { SIZE(8) }, { R(QUOTA), .quota = 8 } },
        { { R(QUOTA), .quota = 7 }, { RETENTION(QUOTA) },
          { R(QUOTA), .quota = 7 } },
        { { R(QUOTA), .quota = 7 }, { RETENTION(AUTO) }, { R(AUTO) } },
        /* resolve refuses these two */
        { { R(KEEP) }, { RETENTION(QUOTA) }, { R(QUOTA) } },
        { { R(QUOTA), .quota = 7 }, { RETENTION(KEEP), SIZE(8) },
          { R(KEEP), .quota = 8 } },
        { { R(KEEP) }, { RETENTION(QUOTA), SIZE(INT64_MAX) },
          { R(QUOTA), .quota = INT64_MAX } },
        { { R(KEEP) }, { RETENTION(QUOTA), SIZE(0) }, {}, BAD_SIZE },
        { { R(KEEP) }, { RETENTION(QUOTA), SIZE(1ull << 63) }, {}, BAD_SIZE },
        { { R(QUOTA), .quota = 7 }, { RETENTION(KEEP), SIZE(0) }, {},
          BAD_SIZE },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        KVMRootRequest request = cases[i].before;
        Error *err = NULL;
        bool ok = kvm_root_policy_change(&request, &cases[i].change, &request,
                                         &err);

        g_assert_cmpint(ok, ==, !cases[i].error);
        if (ok) {
            g_assert_null(err);
            assert_request(&request, &cases[i].after);
        } else {
            g_assert_cmpstr(error_get_pretty(err), ==, cases[i].error);
            error_free(err);
            assert_request(&request, &cases[i].before);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    for (int i = 0; i < ARRAY_SIZE(resolve_cases); i++) {
        g_autofree char *path = g_strdup_printf("/root-retention/resolve/%s",
                                                resolve_cases[i].name);

        g_test_add_data_func(path, &resolve_cases[i], test_resolve);
    }
    g_test_add_func("/root-retention/auto-never-fails", test_auto_never_fails);
    g_test_add_func("/root-retention/slot-coalescing", test_slot_coalescing);
    g_test_add_func("/root-retention/state-coalescing", test_state_coalescing);
    g_test_add_func("/root-retention/quirk-is-for-good",
                    test_quirk_is_for_good);
    g_test_add_func("/root-retention/slot-zap", test_slot_zap);
    g_test_add_func("/root-retention/cap-args", test_cap_args);
    g_test_add_func("/root-retention/change", test_change);

    return g_test_run();
}
