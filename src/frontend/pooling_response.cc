// The answers about texts: vectors, scores, ranks, classes.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "base/digest.h"
#include "frontend/pooling_plan.h"

namespace pixii::frontend {

namespace {

static_assert(std::endian::native == std::endian::little, "base64 vectors are little endian");

constexpr double kLengthMin = 1e-12;  // a shorter vector is divided by this

std::string_view Bytes(std::span<const float> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

void AppendBase64(std::string& out, std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    for (std::size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < count ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      out += k <= count ? kDigits[group >> (18 - 6 * k) & 63U] : '=';
    }
  }
}

void AppendFloats(std::string& out, std::span<const float> values) {
  out += '[';
  for (std::size_t i = 0; i < values.size(); ++i) {
    fmt::format_to(std::back_inserter(out), "{}{}", i == 0 ? "" : ",", values[i]);
  }
  out += ']';
}

double Dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += double{a[i]} * double{b[i]};
  }
  return sum;
}

double Distance(std::span<const float> a, std::span<const float> b, bool euclidean) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    double difference = std::abs(double{a[i]} - double{b[i]});
    sum += euclidean ? difference * difference : difference;
  }
  return euclidean ? std::sqrt(sum) : sum;
}

double Compare(Similarity similarity, std::span<const float> a, std::span<const float> b) {
  switch (similarity) {
    case Similarity::kDot:
      return Dot(a, b);
    case Similarity::kEuclidean:
      return -Distance(a, b, true);
    case Similarity::kManhattan:
      return -Distance(a, b, false);
    case Similarity::kCosine:
      break;
  }
  double lengths =
      std::max(std::sqrt(Dot(a, a)), kLengthMin) * std::max(std::sqrt(Dot(b, b)), kLengthMin);
  return Dot(a, b) / lengths;
}

// JSON has no infinity.
float ToFloat(double x) {
  constexpr double kMax = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(x, -kMax, kMax));
}

double Sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

// What clients see of class logits.
std::vector<float> Activate(std::span<const float> logits, ClassActivation activation) {
  std::vector<float> out(logits.begin(), logits.end());
  if (activation == ClassActivation::kSigmoid) {
    for (float& value : out) {
      value = static_cast<float>(Sigmoid(double{value}));
    }
  } else if (activation == ClassActivation::kSoftmax) {
    double top = *std::ranges::max_element(logits);
    double sum = 0.0;
    for (float logit : logits) {
      sum += std::exp(double{logit} - top);
    }
    for (float& value : out) {
      value = static_cast<float>(std::exp(double{value} - top) / sum);
    }
  }
  return out;
}

// The first `count` of a vector, of length 1 again.
std::vector<float> Cut(std::span<const float> vector, std::size_t count) {
  std::span<const float> kept = vector.first(count);
  double length = std::max(std::sqrt(Dot(kept, kept)), kLengthMin);
  std::vector<float> out;
  for (float value : kept) {
    out.push_back(static_cast<float>(double{value} / length));
  }
  return out;
}

class Writer final {
 public:
  Writer(const PoolingPlan& plan, const ServedModel& model, const wire::ModelCard& card,
         std::span<const std::vector<float>> results)
      : plan_(plan), model_(model), card_(card), results_(results) {}

  std::string Write() {
    switch (plan_.request.surface) {
      case Surface::kEmbeddings:
        WriteEmbeddings();
        break;
      case Surface::kClassify:
        WriteClasses();
        break;
      case Surface::kRerank:
        WriteRanks();
        break;
      default:
        WriteScores();
    }
    WriteEnd();
    return std::move(out_);
  }

 private:
  void Begin(std::string_view object, std::string_view list) {
    out_ = "{";
    if (!plan_.id.empty()) {
      fmt::format_to(std::back_inserter(out_), R"("id":"{}","created":{},)", plan_.id,
                     plan_.created);
    }
    fmt::format_to(std::back_inserter(out_), R"("object":"{}","model":)", object);
    wire::AppendJsonString(out_, plan_.adapter.empty() ? model_.name() : plan_.adapter);
    fmt::format_to(std::back_inserter(out_), R"(,"{}":[)", list);
  }

  void Item(std::size_t place, std::size_t index) {
    fmt::format_to(std::back_inserter(out_), R"({}{{"index":{},)", place == 0 ? "" : ",", index);
  }

  void WriteEmbeddings() {
    Begin("list", "data");
    std::size_t wanted = plan_.request.dimensions.value_or(card_.feature_count);
    for (std::size_t i = 0; i < results_.size(); ++i) {
      std::vector<float> cut;
      std::span<const float> vector = results_[i];
      if (wanted < vector.size()) {
        cut = Cut(vector, wanted);
        vector = cut;
      }
      Item(i, i);
      out_ += R"("object":"embedding","embedding":)";
      if (plan_.request.base64) {
        out_ += '"';
        AppendBase64(out_, Bytes(vector));
        out_ += '"';
      } else {
        AppendFloats(out_, vector);
      }
      out_ += '}';
    }
    out_ += ']';
  }

  void WriteClasses() {
    Begin("list", "data");
    for (std::size_t i = 0; i < results_.size(); ++i) {
      std::vector<float> values =
          plan_.request.activate ? Activate(results_[i], model_.pooling.activation) : results_[i];
      auto best = static_cast<std::size_t>(std::ranges::max_element(values) - values.begin());
      Item(i, i);
      out_ += R"("label":)";
      if (best < model_.pooling.labels.size()) {
        wire::AppendJsonString(out_, model_.pooling.labels[best]);
      } else {
        out_ += "null";
      }
      out_ += R"(,"probs":)";
      AppendFloats(out_, values);
      fmt::format_to(std::back_inserter(out_), R"(,"num_classes":{}}})", values.size());
    }
    out_ += ']';
  }

  void WriteScores() {
    Begin("list", "data");
    std::vector<float> scores = Scores();
    for (std::size_t i = 0; i < scores.size(); ++i) {
      Item(i, i);
      fmt::format_to(std::back_inserter(out_), R"("object":"score","score":{}}})", scores[i]);
    }
    out_ += ']';
  }

  void WriteRanks() {
    Begin("list", "results");
    std::vector<float> scores = Scores();
    std::vector<std::size_t> order(scores.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::sort(order, [&](std::size_t a, std::size_t b) {
      return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
    });
    std::uint32_t top = plan_.request.top_n.value_or(0);
    if (top > 0 && top < order.size()) {
      order.resize(top);
    }
    for (std::size_t place = 0; place < order.size(); ++place) {
      Item(place, order[place]);
      if (plan_.request.return_documents) {
        out_ += R"("document":{"text":)";
        wire::AppendJsonString(out_, plan_.request.second[order[place]]);
        out_ += "},";
      }
      fmt::format_to(std::back_inserter(out_), R"("relevance_score":{}}})", scores[order[place]]);
    }
    out_ += ']';
  }

  // One for each pair, in the order of the request.
  std::vector<float> Scores() const {
    std::vector<float> out;
    for (const auto& [first, second] : plan_.pairs) {
      out.push_back(ToFloat(Compare(model_.pooling.similarity, results_[first], results_[second])));
    }
    if (!plan_.pairs.empty()) {
      return out;
    }
    for (const std::vector<float>& result : results_) {
      double logit = double{result[0]} - (result.size() > 1 ? double{result[1]} : 0.0);
      bool sigmoid =
          plan_.request.activate && model_.pooling.activation != ClassActivation::kIdentity;
      out.push_back(ToFloat(sigmoid ? Sigmoid(logit) : logit));
    }
    return out;
  }

  void WriteEnd() {
    fmt::format_to(std::back_inserter(out_),
                   R"(,"usage":{{"prompt_tokens":{0},"total_tokens":{0}}})", plan_.prompt_tokens);
    if (plan_.request.receipt) {
      out_ += R"(,"receipt":{"fingerprint":)";
      wire::AppendJsonString(out_, card_.fingerprint);
      out_ += R"(,"numerics_id":)";
      wire::AppendJsonString(out_, card_.numerics_id);
      out_ += R"(,"result_hashes":[)";
      for (std::size_t i = 0; i < results_.size(); ++i) {
        fmt::format_to(std::back_inserter(out_), R"({}"{}")", i == 0 ? "" : ",",
                       Sha256Hex(Bytes(results_[i])));
      }
      out_ += "]}";
    }
    out_ += '}';
  }

  const PoolingPlan& plan_;
  const ServedModel& model_;
  const wire::ModelCard& card_;
  std::span<const std::vector<float>> results_;
  std::string out_;
};

}  // namespace

std::string PoolingBody(const PoolingPlan& plan, const ServedModel& model,
                        const wire::ModelCard& card, std::span<const std::vector<float>> results) {
  return Writer(plan, model, card, results).Write();
}

}  // namespace pixii::frontend
