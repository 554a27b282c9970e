/*
 * KVM root retention: what is asked for, against what the host offers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "system/kvm-root-retention.h"

#define ELIDE           (KVM_X86_TDP_ROOT_ELIDE << KVM_X86_TDP_ROOT_FLAGS_SHIFT)
#define DEFAULT         (1 << KVM_X86_TDP_ROOT_DEFAULT)
#define DROP            (1 << KVM_X86_TDP_ROOT_DROP)
#define KEEP            (1 << KVM_X86_TDP_ROOT_KEEP)
#define ALL             (DEFAULT | DROP | KEEP | ELIDE)

/* A policy and a flag that this QEMU does not know: neither used nor missed */
#define FUTURE          (1 << 3 | 1 << (KVM_X86_TDP_ROOT_FLAGS_SHIFT + 1))

#define R(x)            KVM_ROOT_RETENTION_##x
#define E(x)            ON_OFF_AUTO_##x
#define Z(x)            KVM_SLOT_ZAP_##x

typedef struct ResolveCase {
    const char *name;
    KVMRootRequest request;
    uint32_t capability;
    bool slot_zap;
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
      { R(KEEP), true, Z(AUTO) } },
    { "auto/future", { R(AUTO), E(AUTO), Z(AUTO) }, ALL | FUTURE, true,
      { R(KEEP), true, Z(AUTO) } },
    { "auto/no-quirk", { R(AUTO), E(AUTO), Z(AUTO) }, ALL, false,
      { R(KEEP), true, Z(ALL) } },
    { "auto/no-elision", { R(AUTO), E(AUTO), Z(AUTO) }, ALL & ~ELIDE, true,
      { R(KEEP), false, Z(AUTO) } },
    { "auto/no-keep", { R(AUTO), E(AUTO), Z(AUTO) }, ALL & ~KEEP, true,
      { R(DEFAULT), false, Z(ALL) } },
    { "auto/only-future", { R(AUTO), E(AUTO), Z(AUTO) }, FUTURE, true,
      { R(DEFAULT), false, Z(ALL) } },

    /* default is what the kernel does by itself, whatever it offers */
    { "default/stock", { R(DEFAULT), E(AUTO), Z(AUTO) }, 0, false,
      { R(DEFAULT), false, Z(ALL) } },
    { "default/full", { R(DEFAULT), E(AUTO), Z(AUTO) }, ALL, true,
      { R(DEFAULT), false, Z(ALL) } },

    /* the other policies by name */
    { "drop/full", { R(DROP), E(AUTO), Z(AUTO) }, ALL, true,
      { R(DROP), false, Z(ALL) } },
    { "keep/full", { R(KEEP), E(AUTO), Z(AUTO) }, ALL, true,
      { R(KEEP), true, Z(AUTO) } },
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

    /* elision is independent of the policy once it is asked for by name */
    { "elision-on/default", { R(DEFAULT), E(ON), Z(AUTO) }, ALL, true,
      { R(DEFAULT), true, Z(ALL) } },
    { "elision-on/drop", { R(DROP), E(ON), Z(AUTO) }, ALL, true,
      { R(DROP), true, Z(ALL) } },
    { "elision-off/keep", { R(KEEP), E(OFF), Z(AUTO) }, ALL, true,
      { R(KEEP), false, Z(AUTO) } },
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

    /* so is slot-zap, which stock kernels have too */
    { "slot/stock-6.12", { R(AUTO), E(AUTO), Z(SLOT) }, 0, true,
      { R(DEFAULT), false, Z(SLOT) } },
    { "slot/default", { R(DEFAULT), E(AUTO), Z(SLOT) }, ALL, true,
      { R(DEFAULT), false, Z(SLOT) } },
    { "slot/keep", { R(KEEP), E(AUTO), Z(SLOT) }, ALL, true,
      { R(KEEP), true, Z(SLOT) } },
    { "slot/stock-6.1", { R(AUTO), E(AUTO), Z(SLOT) }, 0, false, {},
      "slot-zap=slot needs KVM_X86_QUIRK_SLOT_ZAP_ALL in "
      "KVM_CAP_DISABLE_QUIRKS2, "
      "which host kernel 6.12.1-test does not offer" },
    { "all/keep", { R(KEEP), E(AUTO), Z(ALL) }, ALL, true,
      { R(KEEP), true, Z(ALL) } },
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
}

static void test_resolve(gconstpointer opaque)
{
    const ResolveCase *c = opaque;
    const KVMRootOffer offer = {
        .capability = c->capability,
        .slot_zap = c->slot_zap,
        .kernel = "6.12.1-test",
    };
    /* auto is never in effect, so that it shows if this was not written */
    const KVMRootEffect untouched = { R(AUTO), true, Z(AUTO) };
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

/* auto for all three succeeds and is resolved, whatever a kernel may answer */
static void test_auto_never_fails(void)
{
    const KVMRootRequest request = { R(AUTO), E(AUTO), Z(AUTO) };

    for (uint32_t policies = 0; policies < 16; policies++) {
        for (uint32_t flags = 0; flags < 8; flags++) {
            for (int slot_zap = 0; slot_zap < 2; slot_zap++) {
                const KVMRootOffer offer = {
                    .capability =
                        policies | flags << KVM_X86_TDP_ROOT_FLAGS_SHIFT,
                    .slot_zap = slot_zap,
                    .kernel = "6.12.1-test",
                };
                bool keep = policies & KEEP;
                KVMRootEffect effect;

                g_assert_true(kvm_root_policy_resolve(&request, &offer,
                                                      &effect, &error_abort));
                g_assert_cmpint(effect.retention, ==,
                                keep ? R(KEEP) : R(DEFAULT));
                g_assert_cmpint(effect.reset_elision, ==,
                                keep && (flags & KVM_X86_TDP_ROOT_ELIDE));
                g_assert_cmpint(effect.slot_zap, ==,
                                keep && slot_zap ? Z(AUTO) : Z(ALL));
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

static void test_slot_zap(void)
{
    KVMRootEffect effect = { R(KEEP), true, Z(AUTO) };

    g_assert_cmpint(kvm_root_policy_slot_zap(&effect, false, false), ==,
                    Z(SLOT));
    g_assert_cmpint(kvm_root_policy_slot_zap(&effect, true, false), ==,
                    Z(ALL));
    g_assert_cmpint(kvm_root_policy_slot_zap(&effect, false, true), ==,
                    Z(ALL));
    g_assert_cmpint(kvm_root_policy_slot_zap(&effect, true, true), ==,
                    Z(ALL));

    /* What was asked for by name stands, with VFIO too */
    effect.slot_zap = Z(SLOT);
    g_assert_cmpint(kvm_root_policy_slot_zap(&effect, true, true), ==,
                    Z(SLOT));
    effect.slot_zap = Z(ALL);
    g_assert_cmpint(kvm_root_policy_slot_zap(&effect, false, false), ==,
                    Z(ALL));
}

static void test_cap_args(void)
{
    static const struct {
        KVMRootEffect effect;
        bool enable;
        uint64_t policy, flags;
    } cases[] = {
        /* A kernel that is left alone behaves exactly as one without */
        { { R(DEFAULT), false, Z(ALL) },  false, 0, 0 },
        { { R(DEFAULT), false, Z(SLOT) }, false, 0, 0 },
        { { R(DEFAULT), true, Z(ALL) },   true, 0, 1 },
        { { R(DROP), false, Z(ALL) },     true, 1, 0 },
        { { R(DROP), true, Z(ALL) },      true, 1, 1 },
        { { R(KEEP), false, Z(ALL) },     true, 2, 0 },
        { { R(KEEP), true, Z(AUTO) },     true, 2, 1 },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t policy, flags;

        g_assert_cmpint(kvm_root_policy_cap_args(&cases[i].effect,
                                                 &policy, &flags),
                        ==, cases[i].enable);
        g_assert_cmpuint(policy, ==, cases[i].policy);
        g_assert_cmpuint(flags, ==, cases[i].flags);
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
    g_test_add_func("/root-retention/slot-zap", test_slot_zap);
    g_test_add_func("/root-retention/cap-args", test_cap_args);

    return g_test_run();
}
