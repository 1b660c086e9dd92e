#include <fmt/format.h>

#include <memory>

#include "compare/operator_cases.h"
#include "compare/operator_inputs.h"

namespace pixii::kernels::testing {
namespace {

constexpr double kSumNmse = 1e-12;  // sums in another order

void AddRouting(std::vector<OperatorCase>& out) {
  using Scoring = RouteOptions::Scoring;
  for (const Scoring scoring : {Scoring::kSoftmax, Scoring::kSigmoid, Scoring::kSoftmaxOfChosen}) {
    for (const std::int32_t rows : {0, 1, 5}) {
      for (const std::int32_t groups : {1, 3}) {
        for (const std::int32_t per_token : {1, 4, 9}) {
          const std::string name = fmt::format("route_scoring{}_rows{}_groups{}_chosen{}",
                                               static_cast<int>(scoring), rows, groups, per_token);
          out.push_back({name, [=](Operators& operators) {
                           Inputs inputs(name);
                           GuardedMatrix logits(rows, 9, 2, inputs);
                           GuardedMatrix weights(rows, per_token, 1);
                           const auto correction = inputs.Values(9, 0.0F, 0.5F);
                           std::vector<std::int32_t> experts(
                               static_cast<std::size_t>(rows * per_token));
                           operators.Route(logits.view(),
                                           scoring == Scoring::kSigmoid ? std::span(correction)
                                                                        : std::span<const float>(),
                                           {.experts_per_token = per_token,
                                            .scoring = scoring,
                                            .normalize = scoring == Scoring::kSigmoid,
                                            .normalize_epsilon = 1e-20F,
                                            .scale = 1.5F,
                                            .group_count = groups,
                                            .groups_kept = groups == 1 ? 1 : 2,
                                            .group_by_two = scoring == Scoring::kSigmoid},
                                           experts, weights.view());
                           std::vector<float> both = weights.Result();
                           both.insert(both.end(), experts.begin(), experts.end());
                           return both;
                         }});
        }
      }
    }
  }
}

enum class Spread { kMixed, kOneExpert, kNeverLast };

void AddExpertLinears(std::vector<OperatorCase>& out) {
  for (const std::int32_t tokens : {0, 1, 2, 7, 33}) {
    for (const std::int32_t per_token : {1, 2, 3}) {
      for (const Spread spread : {Spread::kMixed, Spread::kOneExpert, Spread::kNeverLast}) {
        for (const bool first : {true, false}) {
          const std::string name =
              fmt::format("expert_linear_tokens{}_chosen{}_spread{}{}", tokens, per_token,
                          static_cast<int>(spread), first ? "" : "_routed");
          out.push_back(
              {name,
               [=](Operators& operators) {
                 Inputs inputs(name);
                 std::vector<std::unique_ptr<LinearWeight>> weights;
                 for (int expert = 0; expert < 5; ++expert) {
                   const auto values = inputs.Values(std::int64_t{37} * 24);
                   const auto bias = inputs.Values(37);
                   const WeightPart part{.data = values.data(),
                                         .dtype = DType::kF32,
                                         .rows = 37,
                                         .cols = 24,
                                         .bias = bias.data()};
                   weights.push_back(*operators.PrepareLinear({&part, 1}, {.k_shards = 8}));
                 }
                 const std::int32_t rows = tokens * per_token;
                 std::vector<std::int32_t> experts;
                 for (std::int32_t row = 0; row < rows; ++row) {
                   experts.push_back(spread == Spread::kOneExpert
                                         ? 3
                                         : inputs.Below(spread == Spread::kMixed ? 5 : 4));
                 }
                 GuardedMatrix in(first ? tokens : rows, 24, 3, inputs);
                 GuardedMatrix result(rows, 37, 1);
                 operators.ExpertLinear(in.view(), experts, weights, result.view());
                 return result.Result();
               },
               kSumNmse});
        }
      }
    }
  }
}

void AddMixing(std::vector<OperatorCase>& out) {
  for (const std::int32_t rows : {0, 1, 6}) {
    for (const std::int32_t cols : {1, 17, 64}) {
      const std::string suffix = fmt::format("_rows{}_cols{}", rows, cols);
      out.push_back({"combine_experts" + suffix, [=](Operators& operators) {
                       Inputs inputs("combine_experts" + suffix);
                       GuardedMatrix in(3 * rows, cols, 1, inputs);
                       GuardedMatrix weights(rows, 3, 2, inputs);
                       GuardedMatrix result(rows, cols, 1);
                       operators.CombineExperts(in.view(), weights.view(), result.view());
                       return result.Result();
                     }});
      out.push_back({"clamped_activation" + suffix, [=](Operators& operators) {
                       Inputs inputs("clamped_activation" + suffix);
                       GuardedMatrix in(rows, 2 * cols, 1, inputs, -12.0F, 12.0F);
                       GuardedMatrix result(rows, cols, 1);
                       operators.ClampedActivationMul(in.view(), 1.702F, 7.0F, result.view());
                       return result.Result();
                     }});
      out.push_back({"soft_cap_and_copy" + suffix, [=](Operators& operators) {
                       Inputs inputs("soft_cap" + suffix);
                       GuardedMatrix x(rows, cols, 1, inputs, -90.0F, 90.0F);
                       GuardedMatrix result(rows, cols, 3);
                       operators.SoftCap(x.view(), 30.0F);
                       operators.Copy(x.view(), result.view());
                       return result.Result();
                     }});
      out.push_back({"sigmoid_scale" + suffix, [=](Operators& operators) {
                       Inputs inputs("sigmoid_scale" + suffix);
                       GuardedMatrix x(rows, cols, 1, inputs);
                       GuardedMatrix gate(rows, 1, 2, inputs, -5.0F, 5.0F);
                       operators.SigmoidScale(x.view(), gate.view());
                       return x.Result();
                     }});
    }
  }
}

}  // namespace

std::vector<OperatorCase> ExpertCases() {
  std::vector<OperatorCase> out;
  AddRouting(out);
  AddExpertLinears(out);
  AddMixing(out);
  return out;
}

}  // namespace pixii::kernels::testing
