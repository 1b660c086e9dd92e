#include "control/kube_objects.h"

#include <gtest/gtest.h>

#include <set>

#include "sim/kube_objects_check.h"

namespace pixii::control {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using wire::Json;

// As a server gives it back.
Json Stored(Json object) {
  kube::SetMeta(object, "uid", "u-1");
  kube::SetMeta(object, "resourceVersion", "7");
  return object;
}

TEST(KubeObjectsTest, EveryKeyHasANameThatAServerTakes) {
  std::set<std::string> names;
  for (const std::string& key : {std::string("v1/a"), std::string("V1/a"), std::string("v1/a/"),
                                 std::string("~"), std::string(kStoreKeyBytesMax, 'K')}) {
    const Json entry = MakeKubeEntry(key, "x", "694d98147d54be25", {.uid = "u"});
    EXPECT_EQ(kube::Invalid(entry, "ConfigMap"), std::nullopt) << key;
    EXPECT_TRUE(names.insert(KubeEntryName(key)).second) << key;
  }
}

TEST(KubeObjectsTest, ValuesOfAnyBytesComeBackAndTextStaysText) {
  const KubeVersion lease{.uid = "u-lease", .resource_version = "3"};
  for (const std::string& value :
       {std::string(), std::string("{\"a\":\"\u00e9\"}"), std::string("\0\xff\n", 3),
        std::string(kStoreValueBytesMax, 'x'), std::string(kStoreValueBytesMax, '\xfe')}) {
    const Json made = MakeKubeEntry("v1/k", value, "h", lease);
    EXPECT_EQ(kube::Invalid(made, "ConfigMap"), std::nullopt);
    const auto entry = ReadKubeEntry(Stored(*wire::ParseJson(made.Dump())));
    ASSERT_TRUE(entry) << value.size();
    EXPECT_EQ(entry->key, "v1/k");
    EXPECT_EQ(entry->value, value);
    EXPECT_EQ(entry->holder, "h");
    EXPECT_EQ(entry->version, (KubeVersion{.uid = "u-1", .resource_version = "7"}));
  }
  EXPECT_EQ(TextAt(MakeKubeEntry("k", "{}", "h", lease), {"data", "value"}), "{}");
}

TEST(KubeObjectsTest, ALeaseSaysHowLongItLasts) {
  const Json made = MakeKubeLease("h", milliseconds(2500), {.unix_seconds = 0, .nanoseconds = 0});
  EXPECT_EQ(kube::Invalid(made, "Lease"), std::nullopt);
  const auto lease = ReadKubeLease(Stored(made));
  ASSERT_TRUE(lease);
  EXPECT_EQ(lease->holder, "h");
  EXPECT_EQ(lease->name, "pixii-h");
  EXPECT_EQ(lease->duration, seconds(3)) << "whole seconds, not less than asked for";
  EXPECT_EQ(lease->renew_time, "1970-01-01T00:00:00.000000Z");
}

TEST(KubeObjectsTest, TimesAreOfRfc3339) {
  EXPECT_EQ(KubeMicroTime({.unix_seconds = 1'709'210'096, .nanoseconds = 123'456'789}),
            "2024-02-29T12:34:56.123456Z");
}

TEST(KubeObjectsTest, WhatIsNotOfOurFormIsNotOurs) {
  const Json entry = Stored(MakeKubeEntry("v1/k", "x", "h", {.uid = "u"}));
  ASSERT_TRUE(ReadKubeEntry(entry));
  const auto refused = [&](std::string_view patch, const Json& object) {
    const Json changed = kube::MergePatch(object, *wire::ParseJson(patch));
    return !ReadKubeEntry(changed) && !ReadKubeLease(changed);
  };
  EXPECT_TRUE(refused(R"({"metadata":{"name":"other"}})", entry)) << "the name is not of the key";
  EXPECT_TRUE(refused(R"({"metadata":{"labels":null}})", entry));
  EXPECT_TRUE(refused(R"({"metadata":{"labels":{"pixii.dev/store":"v2"}}})", entry));
  EXPECT_TRUE(refused(R"({"metadata":{"labels":{"pixii.dev/holder":null}}})", entry));
  EXPECT_TRUE(refused(R"({"metadata":{"annotations":null}})", entry));
  EXPECT_TRUE(refused(R"({"metadata":{"annotations":{"pixii.dev/key":"v1/k2"}}})", entry));
  EXPECT_TRUE(refused(R"({"metadata":{"uid":null}})", entry));
  EXPECT_TRUE(refused(R"({"data":null})", entry));
  EXPECT_TRUE(refused(R"({"data":{"value":5}})", entry));
  EXPECT_TRUE(refused(R"({"data":null,"binaryData":{"value":"%"}})", entry));
  const Json lease = Stored(MakeKubeLease("h", seconds(3), {}));
  ASSERT_TRUE(ReadKubeLease(lease));
  EXPECT_TRUE(refused(R"({"spec":{"leaseDurationSeconds":0}})", lease));
  EXPECT_TRUE(refused(R"({"spec":{"holderIdentity":"other"}})", lease));
  EXPECT_TRUE(refused(R"({"spec":null})", lease));
  EXPECT_TRUE(refused(R"([])", lease));
}

TEST(KubeObjectsTest, VersionsAreComparedAsNumbers) {
  EXPECT_EQ(ResourceNumber("12345678901"), 12'345'678'901U);
  EXPECT_EQ(ResourceNumber(""), 0U);
  EXPECT_EQ(ResourceNumber("12a"), 0U);
  EXPECT_EQ(ResourceNumber("-1"), 0U);
}

}  // namespace
}  // namespace pixii::control
