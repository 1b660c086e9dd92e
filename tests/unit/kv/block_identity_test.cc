#include "kv/block_identity.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace pixii::kv {
namespace {

const BlockRootFields kFields{.model_fingerprint = "model",
                              .numerics_id = "cpu",
                              .kv_dtype = "bf16",
                              .adapter = "",
                              .tenant = "alice",
                              .salt = "salt"};

TEST(BlockIdentity, EveryFieldOfTheRootChangesTheHash) {
  BlockIdentity identity("key");
  std::set<std::string> hashes = {ToHex(identity.MakeRoot(kFields)->hash)};
  BlockRootFields fields = kFields;
  for (std::string_view BlockRootFields::* member :
       {&BlockRootFields::model_fingerprint, &BlockRootFields::numerics_id,
        &BlockRootFields::kv_dtype, &BlockRootFields::adapter, &BlockRootFields::tenant,
        &BlockRootFields::salt}) {
    fields = kFields;
    fields.*member = "other";
    EXPECT_TRUE(hashes.insert(ToHex(identity.MakeRoot(fields)->hash)).second);
  }
}

TEST(BlockIdentity, FieldsCannotBeShiftedIntoOneAnother) {
  BlockIdentity identity("key");
  BlockRootFields a{.model_fingerprint = "ab",
                    .numerics_id = "c",
                    .kv_dtype = {},
                    .adapter = {},
                    .tenant = {},
                    .salt = {}};
  BlockRootFields b{.model_fingerprint = "a",
                    .numerics_id = "bc",
                    .kv_dtype = {},
                    .adapter = {},
                    .tenant = {},
                    .salt = {}};
  EXPECT_NE(identity.MakeRoot(a)->bytes, identity.MakeRoot(b)->bytes);
}

TEST(BlockIdentity, DependsOnKeyParentAndTokensAlone) {
  std::vector<TokenId> tokens = {1, 2, 3};
  std::vector<TokenId> others = {1, 2, 4};
  BlockIdentity identity("key");
  Hash128 root = identity.MakeRoot(kFields)->hash;
  Hash128 first = identity.Chain(root, tokens);
  EXPECT_EQ(first, BlockIdentity("key").Chain(root, tokens));
  EXPECT_NE(first, BlockIdentity("another key").Chain(root, tokens));
  EXPECT_NE(first, identity.Chain(root, others));
  EXPECT_NE(first, identity.Chain(first, tokens));
}

TEST(BlockIdentity, AWeakHashKeepsOnlyTheBitsAskedFor) {
  BlockIdentity identity("key", 3);
  for (TokenId i = 0; i < 100; ++i) {
    Hash128 hash = identity.Chain({}, std::vector<TokenId>{i});
    EXPECT_EQ(hash.high, 0U);
    EXPECT_LT(hash.low, 8U);
  }
}

}  // namespace
}  // namespace pixii::kv
