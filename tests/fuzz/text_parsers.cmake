pixii_fuzz(parsers_fuzz SRCS parsers_fuzz.cc DEPS pixii_parsers pixii_wire)
