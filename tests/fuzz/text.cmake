pixii_fuzz(tokenizer_json_fuzz SRCS tokenizer_json_fuzz.cc DEPS pixii_text)
