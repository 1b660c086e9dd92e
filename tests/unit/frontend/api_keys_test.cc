#include "frontend/api_keys.h"

#include <gtest/gtest.h>

#include "base/digest.h"
#include "unit/frontend/frontend_fixture.h"
#include "wire/http.h"

namespace pixii::frontend {
namespace {

const ApiKey* Ask(const ApiKeys& keys, std::string_view field, std::string_view value) {
  wire::HttpRequest request;
  request.fields.push_back({std::string(field), std::string(value)});
  return keys.Authenticate(request);
}

TEST(ApiKeys, KnowsItsKeysAndNoOthers) {
  const auto keys = ApiKeys::Parse("# ours\nfirst-key-0001\r\n\n  second-key-0002\n");
  ASSERT_TRUE(keys) << keys.error().ToString();
  EXPECT_FALSE(keys->open());
  const ApiKey* first = Ask(*keys, "Authorization", "Bearer first-key-0001");
  const ApiKey* second = Ask(*keys, "x-api-key", "second-key-0002");
  ASSERT_TRUE(first != nullptr && second != nullptr);
  EXPECT_NE(first->tenant, second->tenant) << "tenants of different keys must not share a cache";
  EXPECT_EQ(first->tenant.find("first"), std::string::npos);
  EXPECT_TRUE(first->admin);
  for (const char* wrong :
       {"Bearer first-key-000", "Bearer first-key-00011", "Bearer ", "Basic first-key-0001", ""}) {
    EXPECT_EQ(Ask(*keys, "Authorization", wrong), nullptr) << wrong;
  }
  EXPECT_EQ(Ask(*keys, "x-api-key", "first-key"), nullptr);
  EXPECT_EQ(keys->Authenticate({}), nullptr);
}

TEST(ApiKeys, WithoutKeysEverybodyMayDoEverythingAsTheEmptyTenant) {
  const ApiKeys keys;
  const ApiKey* key = keys.Authenticate({});
  ASSERT_NE(key, nullptr);
  EXPECT_EQ(key->tenant, "");
  EXPECT_TRUE(key->admin && key->MayUse("anything") && !key->limited());
}

TEST(ApiKeys, RefusesFilesThatWouldLockEverybodyOutOrLetTooManyIn) {
  EXPECT_FALSE(ApiKeys::Parse(""));
  EXPECT_FALSE(ApiKeys::Parse("# only a comment\n"));
  EXPECT_FALSE(ApiKeys::Parse("short\n"));
  EXPECT_FALSE(ApiKeys::Parse("same-key-0001\nsame-key-0001\n"));
  const auto bad = ApiKeys::Parse("good-key-0001\nwith space\n");
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().detail().find("line 2"), std::string::npos);
}

TEST(ApiKeys, AFileCanHoldDigestsInsteadOfKeys) {
  const auto keys = ApiKeys::Parse("sha256:" + Sha256Hex("secret-key-0001") + "\n");
  ASSERT_TRUE(keys) << keys.error().ToString();
  EXPECT_NE(Ask(*keys, "x-api-key", "secret-key-0001"), nullptr);
  EXPECT_EQ(Ask(*keys, "x-api-key", Sha256Hex("secret-key-0001")), nullptr)
      << "the digest itself must open nothing";
  EXPECT_FALSE(ApiKeys::Parse("sha256:abc\n"));
}

TEST(ApiKeys, AnObjectSaysWhatEachKeyMay) {
  const auto keys = ApiKeys::Parse(R"({"keys": [
    {"key": "team-key-0001", "tenant": "blue", "models": ["a", "b"], "requests_per_minute": 5,
     "tokens_per_minute": 1000, "max_requests": 2},
    {"sha256": ")" + Sha256Hex("team-key-0002") +
                                   R"(", "tenant": "blue", "admin": true}]})");
  ASSERT_TRUE(keys) << keys.error().ToString();
  const ApiKey* first = Ask(*keys, "x-api-key", "team-key-0001");
  const ApiKey* second = Ask(*keys, "x-api-key", "team-key-0002");
  ASSERT_TRUE(first != nullptr && second != nullptr);
  EXPECT_EQ(first->tenant, second->tenant);
  EXPECT_TRUE(first->MayUse("b") && !first->MayUse("c") && second->MayUse("c"));
  EXPECT_EQ(first->requests_per_minute, 5U);
  EXPECT_EQ(first->tokens_per_minute, 1000U);
  EXPECT_EQ(first->requests_max, 2U);
  EXPECT_TRUE(!first->admin && second->admin && first->limited() && !second->limited());
}

TEST(ApiKeys, AnObjectThatIsWrongIsRefusedByPlaceAndField) {
  const auto refused = [](std::string_view file, std::string_view named) {
    const auto keys = ApiKeys::Parse(file);
    ASSERT_FALSE(keys) << file;
    EXPECT_NE(keys.error().detail().find(named), std::string::npos) << keys.error().detail();
  };
  refused(R"({"keys": [{"key": "good-key-0001", "rpm": 1}]})",
          "keys[0]: there is no field \"rpm\"");
  refused(R"({"keys": [{"key": "good-key-0001"}, {"tenant": "a"}]})", "keys[1]: sha256 or key");
  refused(R"({"keys": [{"key": "good-key-0001", "models": []}]})", "models");
  refused(R"({"keys": [{"key": "good-key-0001", "tokens_per_minute": 0}]})", "tokens_per_minute");
  refused(R"({"keys": [{"key": "good-key-0001", "admin": 1}]})", "admin");
  refused(R"({"keys": []})", "no key");
  refused(R"({"key": []})", "top");
}

using testing::FrontendTest;

TEST_F(FrontendTest, TakesNewKeysWithoutForgettingWhoIsAnswered) {
  keys = *ApiKeys::Parse("first-key");
  worker.automatic = false;
  Start();
  Session session;
  tasks.Start(Talk(
      session,
      Raw("POST", "/v1/completions", R"({"prompt":"x"})", "Authorization: Bearer first-key\r\n"), 1,
      false, false));
  ASSERT_TRUE(Until([&] { return worker.seen.size() == 1; }));
  frontend->UseKeys(*ApiKeys::Parse("second-key"));
  worker.End(worker.seen[0].id, 0, wire::FinishReason::kStop);
  ASSERT_TRUE(Until([&] { return session.done; }));
  EXPECT_EQ(session.replies.at(0).status, 200);
  EXPECT_EQ(Get("/v1/models", "Authorization: Bearer first-key\r\n").status, 401);
  EXPECT_EQ(Get("/v1/models", "Authorization: Bearer second-key\r\n").status, 200);
}

TEST_F(FrontendTest, DoesNotServeEndpointsThatAreSwitchedOff) {
  options.disabled_endpoints = {"completions", "kserve"};
  Start();
  EXPECT_EQ(Post("/v1/completions", R"({"prompt":"x"})").status, 404);
  EXPECT_EQ(Get("/v2/health/live").status, 404);
  EXPECT_EQ(Chat().status, 200);
  const wire::Json paths = *Get("/openapi.json").json().Find("paths");
  EXPECT_EQ(paths.Find("/v1/completions"), nullptr);
  EXPECT_NE(paths.Find("/v1/chat/completions"), nullptr);
  for (std::string_view name : Frontend::EndpointNames()) {
    EXPECT_FALSE(name.empty());
  }
}

}  // namespace
}  // namespace pixii::frontend
