#include "bench/tokenizer_bench.h"

#include <chrono>
#include <string>

namespace pixii::bench {

namespace {

class Stopwatch final {
 public:
  double Seconds() const {
    std::chrono::duration<double> elapsed =
        std::chrono::steady_clock::now() - begin_;  // tidy: clock this is the measurement
    return elapsed.count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ =
      std::chrono::steady_clock::now();  // tidy: clock this is the measurement
};

}  // namespace

Result<std::vector<Figure>> BenchTokenizer(const text::Tokenizer& tokenizer, std::string_view text,
                                           const TokenizerBenchOptions& options) {
  if (text.empty()) {
    return Fail(Code::kInvalidArgument, "the text to encode is empty", "text");
  }
  const double megabytes = static_cast<double>(text.size()) / 1e6;
  Stopwatch first;
  PX_TRY(std::vector<TokenId> ids, tokenizer.Encode(text));
  const double first_rate = megabytes / first.Seconds();
  std::vector<double> encode;
  std::vector<double> encode_ids;
  std::vector<double> decode;
  for (std::uint32_t repeat = 0; repeat < options.repeats; ++repeat) {
    Stopwatch encoding;
    PX_TRY(ids, tokenizer.Encode(text));
    const double encode_s = encoding.Seconds();
    encode.push_back(megabytes / encode_s);
    encode_ids.push_back(static_cast<double>(ids.size()) / encode_s);
    Stopwatch decoding;
    const std::string back = tokenizer.Decode(ids);
    const double decode_s = decoding.Seconds();
    decode.push_back(static_cast<double>(back.size()) / 1e6 / decode_s);
  }
  return std::vector<Figure>{
      MakeFigure("encode", "MB/s", encode), MakeFigure("encode_ids", "ids/s", encode_ids),
      MakeFigure("encode_first", "MB/s", {first_rate}), MakeFigure("decode", "MB/s", decode),
      MakeFigure("ids", "ids", {static_cast<double>(ids.size())})};
}

}  // namespace pixii::bench
