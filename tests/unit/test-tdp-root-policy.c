/*
 * KVM root retention: what is asked for, against what the host offers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/units.h"
#include "target/i386/kvm/tdp-root-retention.h"

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

/* What else is so */
#define QUIRK           1       /* it can be disabled */
#define GONE            2       /* it is */
#define VFIO            4

#define R(x)            KVM_ROOT_RETENTION_##x
#define P(x)            KVM_ROOT_POLICY_##x
#define Z(x)            KVM_SLOT_ZAP_##x
#define S(x)            KVM_SLOT_ZAP_SCOPE_##x
#define E(x)            ON_OFF_AUTO_##x

#define CAP             "KVM_CAP_X86_TDP_ROOT_RETENTION"
#define KERNEL          "6.12.1-test"
#define NO_POLICY(policy, what) \
    "root-retention=" policy " needs " what CAP \
    ", which host kernel " KERNEL " does not offer"
#define NO_ELISION(what) \
    "x-reset-elision=on needs " what CAP \
    ", which host kernel " KERNEL " does not offer"
#define NO_SLOT \
    "slot-zap=slot needs KVM_X86_TDP_ROOT_SLOT in " CAP " or " \
    "KVM_X86_QUIRK_SLOT_ZAP_ALL in KVM_CAP_DISABLE_QUIRKS2, and host kernel " \
    KERNEL " offers neither"
#define FOR_GOOD \
    "slot-zap=all: slot-zap=slot is in effect through " \
    "KVM_CAP_DISABLE_QUIRKS2, and host kernel " KERNEL \
    " can't be told to go back"
#define NO_SIZE         "root-retention=quota needs root-quota=SIZE"
#define SIZE_FOR(policy) \
    "root-quota is for root-retention=quota, not for root-retention=" policy

typedef struct DecideCase {
    const char *name;
    KVMRootRequest request;
    uint32_t capability;
    int host;
    KVMRootEffect effect;
    const char *error;          /* if set, nothing takes effect */
} DecideCase;

static const DecideCase decide_cases[] = {
    /* auto takes what there is, and never fails */
    { "auto/stock-6.1", { R(AUTO) }, 0, 0, { P(DEFAULT), 0, S(ALL), false } },
    { "auto/stock-6.12", { R(AUTO) }, 0, QUIRK,
      { P(DEFAULT), 0, S(ALL), false } },
    { "auto/full", { R(AUTO) }, ALL, QUIRK, { P(KEEP), 0, S(SLOT), true } },
    { "auto/future", { R(AUTO) }, ALL | FUTURE, QUIRK,
      { P(KEEP), 0, S(SLOT), true } },
    { "auto/no-quirk", { R(AUTO) }, ALL, 0, { P(KEEP), 0, S(SLOT), true } },
    { "auto/no-elision", { R(AUTO) }, ALL & ~ELIDE, QUIRK,
      { P(KEEP), 0, S(SLOT), false } },
    /* the quirk is not a substitute for the flag */
    { "auto/some", { R(AUTO) }, SOME, QUIRK, { P(KEEP), 0, S(ALL), true } },
    { "auto/no-slot", { R(AUTO) }, SOME, 0, { P(KEEP), 0, S(ALL), true } },
    { "auto/no-keep", { R(AUTO) }, ALL & ~KEEP, QUIRK,
      { P(DEFAULT), 0, S(ALL), false } },
    { "auto/only-future", { R(AUTO) }, FUTURE, QUIRK,
      { P(DEFAULT), 0, S(ALL), false } },

    /* default is what the kernel does by itself, whatever it offers */
    { "default/stock", { R(DEFAULT) }, 0, 0, { P(DEFAULT), 0, S(ALL), false } },
    { "default/all", { R(DEFAULT) }, ALL, 0, { P(DEFAULT), 0, S(ALL), false } },
    { "default/none-offered", { R(DEFAULT) }, ALL & ~DEFAULT, 0,
      { P(DEFAULT), 0, S(ALL), false } },

    /* the other policies by name */
    { "drop/full", { R(DROP) }, ALL, QUIRK, { P(DROP), 0, S(ALL), false } },
    { "keep/full", { R(KEEP) }, ALL, QUIRK, { P(KEEP), 0, S(SLOT), true } },
    { "drop/stock", { R(DROP) }, 0, QUIRK, {}, NO_POLICY("drop", "") },
    { "keep/stock", { R(KEEP) }, 0, QUIRK, {}, NO_POLICY("keep", "") },
    { "keep/no-keep", { R(KEEP) }, ALL & ~KEEP, QUIRK, {},
      NO_POLICY("keep", "that policy in ") },

    /* quota retains as keep does; its size is rounded up to pages */
    { "quota/full", { R(QUOTA), 64 * MiB }, ALL, QUIRK,
      { P(QUOTA), 16384, S(SLOT), true } },
    { "quota/1-byte", { R(QUOTA), 1 }, ALL, 0, { P(QUOTA), 1, S(SLOT), true } },
    { "quota/4K", { R(QUOTA), 4096 }, ALL, 0, { P(QUOTA), 1, S(SLOT), true } },
    { "quota/page-and-a-bit", { R(QUOTA), 4097 }, ALL, 0,
      { P(QUOTA), 2, S(SLOT), true } },
    { "quota/largest", { R(QUOTA), INT64_MAX }, ALL, 0,
      { P(QUOTA), 1ull << 51, S(SLOT), true } },
    { "quota/no-size", { R(QUOTA) }, ALL, 0, {}, NO_SIZE },
    { "quota/no-size-stock", { R(QUOTA) }, 0, QUIRK, {}, NO_SIZE },
    { "quota/stock", { R(QUOTA), 4096 }, 0, QUIRK, {},
      NO_POLICY("quota", "") },
    { "quota/no-quota", { R(QUOTA), 4096 }, SOME, QUIRK, {},
      NO_POLICY("quota", "that policy in ") },
    { "quota/size-for-auto", { R(AUTO), 4096 }, ALL, 0, {}, SIZE_FOR("auto") },
    { "quota/size-for-default", { R(DEFAULT), 4096 }, ALL, 0, {},
      SIZE_FOR("default") },
    { "quota/size-for-keep", { R(KEEP), 4096 }, 0, 0, {}, SIZE_FOR("keep") },

    /* elision is independent of the policy once it is asked for by name */
    { "elision/on-default", { R(DEFAULT), 0, Z(AUTO), E(ON) }, ALL, 0,
      { P(DEFAULT), 0, S(ALL), true } },
    { "elision/on-drop", { R(DROP), 0, Z(AUTO), E(ON) }, ALL, 0,
      { P(DROP), 0, S(ALL), true } },
    { "elision/off-keep", { R(KEEP), 0, Z(AUTO), E(OFF) }, ALL, 0,
      { P(KEEP), 0, S(SLOT), false } },
    { "elision/off-stock", { R(AUTO), 0, Z(AUTO), E(OFF) }, 0, 0,
      { P(DEFAULT), 0, S(ALL), false } },
    { "elision/on-stock", { R(AUTO), 0, Z(AUTO), E(ON) }, 0, QUIRK, {},
      NO_ELISION("") },
    { "elision/on-no-elision", { R(KEEP), 0, Z(AUTO), E(ON) }, ALL & ~ELIDE, 0,
      {}, NO_ELISION("KVM_X86_TDP_ROOT_ELIDE in ") },

    /* so is slot-zap; without the capability the quirk gives it */
    { "slot/stock-6.12", { R(AUTO), 0, Z(SLOT) }, 0, QUIRK,
      { P(DEFAULT), 0, S(SLOT), false } },
    { "slot/default", { R(DEFAULT), 0, Z(SLOT) }, ALL, 0,
      { P(DEFAULT), 0, S(SLOT), false } },
    { "slot/drop", { R(DROP), 0, Z(SLOT) }, ALL, QUIRK,
      { P(DROP), 0, S(SLOT), false } },
    { "slot/keep", { R(KEEP), 0, Z(SLOT) }, ALL, 0,
      { P(KEEP), 0, S(SLOT), true } },
    { "slot/stock-6.1", { R(AUTO), 0, Z(SLOT) }, 0, 0, {}, NO_SLOT },
    { "slot/some", { R(KEEP), 0, Z(SLOT) }, SOME, QUIRK, {}, NO_SLOT },
    { "all/keep", { R(KEEP), 0, Z(ALL) }, ALL, QUIRK,
      { P(KEEP), 0, S(ALL), true } },
    { "all/stock-6.1", { R(AUTO), 0, Z(ALL) }, 0, 0,
      { P(DEFAULT), 0, S(ALL), false } },

    /* with a VFIO device auto is all, and what is asked for by name stands */
    { "vfio/auto", { R(AUTO) }, ALL, VFIO, { P(KEEP), 0, S(ALL), true } },
    { "vfio/quota", { R(QUOTA), 1 }, ALL, VFIO, { P(QUOTA), 1, S(ALL), true } },
    { "vfio/slot", { R(KEEP), 0, Z(SLOT) }, ALL, VFIO,
      { P(KEEP), 0, S(SLOT), true } },
    { "vfio/all", { R(KEEP), 0, Z(ALL) }, ALL, VFIO,
      { P(KEEP), 0, S(ALL), true } },
    { "vfio/stock-6.12", { R(AUTO) }, 0, VFIO | QUIRK,
      { P(DEFAULT), 0, S(ALL), false } },
    { "vfio/slot-stock-6.12", { R(AUTO), 0, Z(SLOT) }, 0, VFIO | QUIRK,
      { P(DEFAULT), 0, S(SLOT), false } },

    /* once the quirk is disabled, slot is in effect for good */
    { "for-good/auto", { R(AUTO) }, 0, GONE,
      { P(DEFAULT), 0, S(SLOT), false } },
    { "for-good/vfio", { R(AUTO) }, 0, VFIO | GONE,
      { P(DEFAULT), 0, S(SLOT), false } },
    { "for-good/slot", { R(DEFAULT), 0, Z(SLOT) }, 0, GONE,
      { P(DEFAULT), 0, S(SLOT), false } },
    { "for-good/all", { R(AUTO), 0, Z(ALL) }, 0, GONE, {}, FOR_GOOD },

    /* of several that can't be given, the first is named */
    { "first-error/policy", { R(KEEP), 0, Z(SLOT), E(ON) }, 0, 0, {},
      NO_POLICY("keep", "") },
    { "first-error/elision", { R(AUTO), 0, Z(SLOT), E(ON) }, 0, 0, {},
      NO_ELISION("") },
};

static KVMRootOffer make_offer(uint32_t capability, int host)
{
    return (KVMRootOffer) {
        .capability = capability,
        .slot_quirk = host & (QUIRK | GONE),
        .slot_quirk_disabled = host & GONE,
        .kernel = KERNEL,
    };
}

static void test_decide(gconstpointer opaque)
{
    const DecideCase *c = opaque;
    const KVMRootOffer offer = make_offer(c->capability, c->host);
    /* Never a decision, so that it shows if this was not written */
    const KVMRootEffect untouched = { P(DROP), 5, S(SLOT), true };
    const KVMRootEffect *expected = c->error ? &untouched : &c->effect;
    KVMRootEffect effect = untouched;
    Error *err = NULL;

    g_assert_cmpint(kvm_root_decide(&c->request, &offer, c->host & VFIO,
                                    &effect, &err), ==, !c->error);
    g_assert_cmpstr(err ? error_get_pretty(err) : NULL, ==, c->error);
    error_free(err);
    g_assert_cmpint(effect.policy, ==, expected->policy);
    g_assert_cmpuint(effect.quota_pages, ==, expected->quota_pages);
    g_assert_cmpint(effect.slot_zap, ==, expected->slot_zap);
    g_assert_cmpint(effect.reset_elision, ==, expected->reset_elision);
}

/* auto for all succeeds, whatever a kernel may answer */
static void test_auto_never_fails(void)
{
    const KVMRootRequest request = { R(AUTO) };

    for (int i = 0; i < 32 * 16 * 8; i++) {
        uint32_t policies = i % 32, flags = i / 32 % 16;
        int host = i / 32 / 16;
        const KVMRootOffer offer =
            make_offer(policies | flags << KVM_X86_TDP_ROOT_FLAGS_SHIFT, host);
        bool keep = policies & KEEP;
        bool slot = offer.slot_quirk_disabled ||
            (keep && (flags & KVM_X86_TDP_ROOT_SLOT) && !(host & VFIO));
        KVMRootEffect effect;

        g_assert_true(kvm_root_decide(&request, &offer, host & VFIO, &effect,
                                      &error_abort));
        g_assert_cmpint(effect.policy, ==, keep ? P(KEEP) : P(DEFAULT));
        g_assert_cmpint(effect.reset_elision, ==,
                        keep && (flags & KVM_X86_TDP_ROOT_ELIDE));
        g_assert_cmpint(effect.slot_zap, ==, slot ? S(SLOT) : S(ALL));
        g_assert_cmpuint(effect.quota_pages, ==, 0);
    }
}

static void test_offers(void)
{
    static const struct {
        uint32_t capability;
        int host;
        unsigned int policies;
        bool elide, slot, slot_zap;
    } cases[] = {
        { 0, 0,                   DEFAULT, false, false, false },
        { 0, QUIRK,               DEFAULT, false, false, true },
        { SOME, QUIRK,            DEFAULT | DROP | KEEP, true, false, false },
        { ALL, 0,                 ALL & 15, true, true, true },
        { ALL | FUTURE, QUIRK,    ALL & 15, true, true, true },
        { ALL & ~DEFAULT, 0,      ALL & 15, true, true, true },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        KVMRootOffer offer = make_offer(cases[i].capability, cases[i].host);

        for (int policy = 0; policy < KVM_ROOT_POLICY__MAX; policy++) {
            g_assert_cmpint(kvm_root_offers_policy(&offer, policy), ==,
                            cases[i].policies >> policy & 1);
        }
        g_assert_cmpint(kvm_root_offers_flag(&offer, KVM_X86_TDP_ROOT_ELIDE),
                        ==, cases[i].elide);
        g_assert_cmpint(kvm_root_offers_flag(&offer, KVM_X86_TDP_ROOT_SLOT),
                        ==, cases[i].slot);
        g_assert_cmpint(kvm_root_offers_slot_zap(&offer), ==,
                        cases[i].slot_zap);
    }
}

static void test_quota_valid(void)
{
    static const uint64_t invalid[] = { 0, 1ull << 63, UINT64_MAX };
    static const uint64_t valid[] = { 1, 4095, 64 * MiB, INT64_MAX };

    for (int i = 0; i < ARRAY_SIZE(valid); i++) {
        g_assert_true(kvm_root_quota_valid(valid[i], &error_abort));
    }
    for (int i = 0; i < ARRAY_SIZE(invalid); i++) {
        Error *err = NULL;

        g_assert_false(kvm_root_quota_valid(invalid[i], &err));
        g_assert_cmpstr(error_get_pretty(err), ==,
                        "Parameter 'root-quota' expects a size of at least "
                        "1 byte and less than 8 EiB");
        error_free(err);
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
        { { P(DEFAULT), 0, S(ALL), false },     false, { 0, 0, 0 } },
        { { P(DEFAULT), 0, S(SLOT), false },    true,  { 0, 2, 0 } },
        { { P(DEFAULT), 0, S(ALL), true },      true,  { 0, 1, 0 } },
        { { P(DROP), 0, S(ALL), false },        true,  { 1, 0, 0 } },
        { { P(DROP), 0, S(ALL), true },         true,  { 1, 1, 0 } },
        { { P(KEEP), 0, S(ALL), false },        true,  { 2, 0, 0 } },
        { { P(KEEP), 0, S(ALL), true },         true,  { 2, 1, 0 } },
        { { P(KEEP), 0, S(SLOT), true },        true,  { 2, 3, 0 } },
        { { P(QUOTA), 9, S(ALL), false },       true,  { 3, 0, 9 } },
        { { P(QUOTA), 9, S(SLOT), true },       true,  { 3, 3, 9 } },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t args[3];

        g_assert_cmpint(kvm_root_cap_args(&cases[i].effect, args), ==,
                        cases[i].enable);
        g_assert_cmpmem(args, sizeof(args), cases[i].args, sizeof(args));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    for (int i = 0; i < ARRAY_SIZE(decide_cases); i++) {
        g_autofree char *path = g_strdup_printf("/tdp-root-policy/decide/%s",
                                                decide_cases[i].name);

        g_test_add_data_func(path, &decide_cases[i], test_decide);
    }
    g_test_add_func("/tdp-root-policy/auto-never-fails", test_auto_never_fails);
    g_test_add_func("/tdp-root-policy/offers", test_offers);
    g_test_add_func("/tdp-root-policy/quota-valid", test_quota_valid);
    g_test_add_func("/tdp-root-policy/cap-args", test_cap_args);

    return g_test_run();
}
