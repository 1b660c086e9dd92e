#include "apps/pooling_profile_of.h"

#include <utility>

#include "model/sentence_config.h"

namespace pixii::apps {

namespace {

frontend::Similarity SimilarityOf(model::VectorSimilarity similarity) {
  switch (similarity) {
    case model::VectorSimilarity::kDot:
      return frontend::Similarity::kDot;
    case model::VectorSimilarity::kEuclidean:
      return frontend::Similarity::kEuclidean;
    case model::VectorSimilarity::kManhattan:
      return frontend::Similarity::kManhattan;
    case model::VectorSimilarity::kCosine:
      break;
  }
  return frontend::Similarity::kCosine;
}

// As CrossEncoder of sentence-transformers for one class, as transformers' pipeline for several.
frontend::ClassActivation ActivationOf(const model::SentenceConfig& config,
                                       const model::ModelSpec& spec) {
  bool several = spec.task == model::ModelTask::kClassify && spec.row_size > 1;
  model::ScoreActivation activation = config.activation.value_or(
      several ? model::ScoreActivation::kSoftmax : model::ScoreActivation::kSigmoid);
  return activation == model::ScoreActivation::kSoftmax && several
             ? frontend::ClassActivation::kSoftmax
         : activation == model::ScoreActivation::kIdentity ? frontend::ClassActivation::kIdentity
                                                           : frontend::ClassActivation::kSigmoid;
}

}  // namespace

Result<frontend::PoolingProfile> PoolingProfileOf(const model::CheckpointFolder& folder,
                                                  const model::ModelSpec& spec) {
  frontend::PoolingProfile out;
  if (spec.task == model::ModelTask::kGenerate && !spec.score_tokens) {
    return out;
  }
  PX_TRY(model::SentenceConfig config, model::LoadSentenceConfig(folder));
  out.prompts = std::move(config.prompts);
  out.default_prompt = std::move(config.default_prompt);
  out.skip_prompt = spec.pooler && !spec.pooler->spec().include_prompt;
  out.similarity = SimilarityOf(config.similarity);
  out.activation = ActivationOf(config, spec);
  out.labels = std::move(config.labels);
  out.matryoshka = config.matryoshka;
  out.dimensions.assign(config.dimensions.begin(), config.dimensions.end());
  out.tokens_max = static_cast<std::uint32_t>(config.tokens_max);
  if (spec.score_tokens) {
    out.score = frontend::ScorePair{.yes = spec.score_tokens->yes, .no = spec.score_tokens->no};
  }
  out.pairs_are_prompts = !spec.whole_texts;
  return out;
}

}  // namespace pixii::apps
