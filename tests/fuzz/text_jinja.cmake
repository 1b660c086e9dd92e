pixii_fuzz(chat_template_fuzz SRCS chat_template_fuzz.cc DEPS pixii_text pixii_wire)
