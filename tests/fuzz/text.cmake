pixii_fuzz(tokenizer_json_fuzz SRCS tokenizer_json_fuzz.cc DEPS pixii_text)
pixii_fuzz(pretokenizer_fuzz SRCS pretokenizer_fuzz.cc DEPS pixii_text)
pixii_fuzz(tokenizer_model_fuzz SRCS tokenizer_model_fuzz.cc DEPS pixii_text)
pixii_fuzz(grammar_fuzz SRCS grammar_fuzz.cc DEPS pixii_grammar pixii_text)
